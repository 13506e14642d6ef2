"""Runs in a container: the first layer, one of everything that a tree can hold."""

import os


def write(name, text="text\n", mode=0o644, uid=0, gid=0, time=1_500_000_000_123_456_789):
    path = f"/t/{name}"
    with open(path, "w") as file:
        file.write(text)
    os.chown(path, uid, gid)
    os.chmod(path, mode)
    os.utime(path, ns=(time, time))


for directory in ("keep", "gone/deep", "opaque/old", "swap", "emptied", "d/" * 12 + "e" * 99):
    os.makedirs(f"/t/{directory}")
for name in ("plain", "gone/a", "gone/deep/b", "opaque/old/c", "opaque/d", "swap/file", "emptied/x"):
    write(name, name)
for name in ("touched", "owned", "moded", "future", "two\nlines and spaces ", "é世界", "long-name-" * 20):
    write(name)
write("setuid", mode=0o4755, uid=1, gid=2)
write("setgid", mode=0o2711, uid=4_000_000)
write("closed", mode=0)
write("old", time=1_000_000_000)
write("future", time=4_102_444_800_000_000_000)
write("empty", "")
write("sparse", "")
os.truncate("/t/sparse", 5_000_000)
os.mkdir("/t/sticky")
os.chmod("/t/sticky", 0o1777)
for link in ("one", "two", "keep/three"):
    os.link("/t/plain", f"/t/{link}")
os.symlink("/t/plain", "/t/absolute")
os.symlink("../../nowhere", "/t/dangling")
os.chown("/t/dangling", 5, 6, follow_symlinks=False)
os.symlink("keep", "/t/swap/link")
os.mkfifo("/t/fifo", 0o620)
os.mknod("/t/device", 0o20660, os.makedev(1, 3))
os.mkdir("/t/swap/directory")
# CAP_NET_BIND_SERVICE, permitted and effective (struct vfs_cap_data, revision 2)
os.setxattr("/t/plain", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
os.utime("/t/keep", ns=(7, 1_234_567_890_000_000_000))
