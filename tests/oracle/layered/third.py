"""Runs in a container: the third layer brings back what the second removed, and removes what it made."""

import os

os.mkdir("/t/gone")
for name in ("gone/again", "two", "etc-issue.net"):
    with open(f"/t/{name}", "w") as file:
        file.write("back")
os.rename("/t/etc-issue.net", "/etc/issue.net")
os.unlink("/t/opaque/new")
os.unlink("/t/swap/file/inside")
os.rmdir("/t/swap/link")
os.symlink("/etc", "/t/swap/link")
with open("/t/plain", "a") as file:
    file.write("more")
