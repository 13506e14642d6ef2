"""The course images, made on this machine from Debian packages: busybox, hello-world, debian, httpd.

    images.py build DIRECTORY                   write the first three as an OCI layout, DIRECTORY/layout
    images.py push DIRECTORY ADDRESS            push them to the registry at 127.0.0.1:PORT as library/…
    images.py httpd DIRECTORY ADDRESS MINIDOCK  build setup/httpd on that debian by MINIDOCK, and push it
    images.py recipe                            print the hash of everything that decides their content

The first three have nothing to be built from: busybox and hello-world are one program each (the second for
two architectures), debian is what mmdebstrap installs. Needs root, busybox-static and mmdebstrap; the
packages come from the mirror that this machine uses.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from oci import Descriptor, Image, Layer, Layout, Target, difference, directory, file, link, scan

SUITE = os.environ.get("MINIDOCK_SUITE", "bookworm")
HTTPD = Path(__file__).with_name("httpd")
EPOCH = 1767225600  # 2026-01-01: the time in every image, so that each machine makes the same bytes
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
VERSIONS = {"bookworm": "12", "trixie": "13"}

# Caches, logs and what belongs to the machine that the image is made on.
LEFT_OUT = [
    "dev/", "proc/", "sys/", "run/", "tmp/", "etc/hostname", "etc/resolv.conf", "etc/machine-id",
    "var/cache/apt/", "var/cache/ldconfig/", "var/cache/debconf/", "var/lib/apt/lists/", "var/log/",
    "var/lib/dpkg/status-old", "var/lib/dpkg/diversions-old", "etc/passwd-", "etc/group-", "etc/shadow-",
    "etc/gshadow-", "etc/apt/apt.conf.d/99mmdebstrap", "root/.cache",
]  # fmt: skip


def architecture() -> str:
    """This machine's architecture in Debian's words, which are the OCI's too: amd64, arm64."""
    return subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()


# ── busybox: one static program and a link for each of its names ─────────────────────────────────────

PASSWD = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
PASSWD += "bin:x:2:2:bin:/bin:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\n"
PASSWD += "nobody:x:65534:65534:nobody:/home:/bin/false\n"
GROUP = "root:x:0:\ndaemon:x:1:\nbin:x:2:\ntty:x:5:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n"


def busybox(layout: Layout) -> dict[str, Descriptor]:
    program = Path("/bin/busybox")
    applets = subprocess.check_output([program, "--list-full"], text=True).split()
    banner = subprocess.check_output([program], text=True).splitlines()[0]  # "BusyBox v1.35.0 (Debian …"
    version = banner.split()[1].removeprefix("v")

    def entries() -> Iterator[Any]:
        places = {"bin", "sbin", "usr/bin", "usr/sbin", *(str(Path(each).parent) for each in applets)}
        for name in sorted(places | {str(each) for place in places for each in Path(place).parents}):
            if name != ".":
                yield directory(name)
        for name in ("dev", "etc", "home", "proc", "sys", "var", "var/log", "var/spool", "var/www"):
            yield directory(name)
        yield directory("root", 0o700)
        yield directory("tmp", 0o1777)
        yield file("bin/busybox", program, 0o755)
        for applet in sorted(applets):
            if applet != "bin/busybox":
                yield link(applet, "/bin/busybox")
        yield file("etc/passwd", PASSWD)
        yield file("etc/group", GROUP)
        yield file("etc/shadow", "root:*:::::::\n", 0o640)

    image = Image(
        architecture(),
        {"Env": [PATH], "Cmd": ["sh"]},
        [layout.add_layer(entries())],
        [(f"COPY busybox-{version} / # Debian's busybox-static", True), ('CMD ["sh"]', False)],
    )
    descriptor = layout.add_image(image)
    return {"library/busybox:latest": descriptor, f"library/busybox:{version}": descriptor}


# ── hello-world: the smallest program that can speak, for two architectures ──────────────────────────

GREETING = """
Hello from minidock!
You see this because a container just ran on this machine. What happened:

 1. The name hello-world was read as docker.io/library/hello-world:latest.
 2. It was not here yet, so the registry mirror was asked for it; the registry
    answered with a list of platforms, and the one of this machine was chosen.
 3. Its only layer was fetched, its SHA-256 compared, and the files unpacked.
 4. A process was made with namespaces and a cgroup of its own, the layer became
    its root filesystem, and what it must not do was taken from it.
 5. It executed /hello, a program without any library, which wrote this text to
    the terminal and ended. The container is a process: now it is over.

Watch these steps being taken:    minidock run --rm --explain hello-world
Try something bigger:             minidock run -it debian bash
"""


def hello_program(machine: str) -> bytes:
    """An ELF executable that writes GREETING to its standard output and exits: two system calls."""
    text = GREETING.encode()
    if machine == "amd64":
        elf_machine, length = 62, 32
        code = b"\xb8" + struct.pack("<I", 1)  # mov eax, 1          write
        code += b"\xbf" + struct.pack("<I", 1)  # mov edi, 1          standard output
        code += b"\x48\x8d\x35" + struct.pack("<i", length - 17)  # lea rsi, [rip + …]  the text
        code += b"\xba" + struct.pack("<I", len(text))  # mov edx, length
        code += b"\x0f\x05"  # syscall
        code += b"\x6a\x3c\x58\x31\xff\x0f\x05"  # push 60; pop rax; xor edi, edi; syscall    exit(0)
        code = code.ljust(length, b"\xcc")
    else:
        elf_machine, length = 183, 32
        instructions = [
            0xD2800808,  # mov x8, #64   write
            0xD2800020,  # mov x0, #1    standard output
            0x10000001 | (length - 8) // 4 << 5,  # adr x1, text
            0xD2800002 | len(text) << 5,  # mov x2, length
            0xD4000001,  # svc #0
            0xD2800BA8,  # mov x8, #93   exit
            0xD2800000,  # mov x0, #0
            0xD4000001,  # svc #0
        ]
        code = struct.pack("<8I", *instructions)
    headers, address = 64 + 56, 0x400000
    size = headers + len(code) + len(text)
    identification = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    elf = struct.pack(
        "<16sHHIQQQIHHHHHH",
        *(identification, 2, elf_machine, 1, address + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0),
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, address, address, size, size, 0x1000)  # load, read + execute
    return elf + segment + code + text


def hello_world(layout: Layout) -> dict[str, Descriptor]:
    manifests = []
    for machine in ("amd64", "arm64"):
        layer = layout.add_layer([file("hello", hello_program(machine), 0o755)])
        config = {"Env": [PATH], "Cmd": ["/hello"], "WorkingDir": "/"}
        history = [("COPY hello / # buildkit", True), ('CMD ["/hello"]', False)]
        manifests.append(layout.add_image(Image(machine, config, [layer], history)))
    index = layout.add_index(manifests)
    return {"library/hello-world:latest": index, "library/hello-world:linux": index}


# ── debian: a bootstrap, a layer taken at each stage ─────────────────────────────────────────────────


def debian(layout: Layout, work: Path, packages: Path) -> dict[str, Descriptor]:
    """Make debian, and download what the httpd of setup/httpd installs on it into *packages*."""
    mirror = debian_mirror()
    hook = f"{shlex.quote(sys.executable)} {shlex.quote(__file__)} stage {shlex.quote(str(work))}"
    install = "APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get install -yqq --no-install-recommends"
    install += ' -oDPkg::Chroot-Directory="$1"'
    download = f"--download-only -oDir::Cache::archives={shlex.quote(str(packages))}"
    subprocess.run(
        [
            "mmdebstrap", "--variant=minbase", "--mode=root", "--quiet", f"--keyring={keyring()}",
            "--aptopt=APT::Install-Recommends \"false\"",
            # As Debian's own slim images: no manual pages, no translations, of the documents the licenses.
            "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
            "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-include=/usr/share/doc/*/copyright",
            f"--customize-hook={hook} base \"$1\"",
            f"--customize-hook={install} python3 >&2",
            f"--customize-hook={hook} python \"$1\"",
            f"--customize-hook={install} {download} apache2-bin media-types >&2",
            SUITE, "/dev/null", mirror,
        ],
        check=True,
        env=os.environ | {"SOURCE_DATE_EPOCH": str(EPOCH), "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    base, python = (Layer(**json.loads((work / f"{stage}.json").read_text())) for stage in ("base", "python"))
    image = Image(
        architecture(),
        {"Env": [PATH], "Cmd": ["bash"]},
        [base, python],
        [
            (f"ADD {SUITE} / # mmdebstrap --variant=minbase", True),
            ('CMD ["bash"]', False),
            ("RUN apt-get install -y --no-install-recommends python3", True),
        ],
    )
    descriptor = layout.add_image(image)
    tags = ["latest", SUITE, *([VERSIONS[SUITE]] if SUITE in VERSIONS else [])]
    return {f"library/debian:{tag}": descriptor for tag in tags}


def take_stage(work: Path, stage: str, root: Path) -> None:
    """Called by mmdebstrap: write the layer of what has changed below *root* since the last stage."""
    tree_file = work / "tree.json"
    before = json.loads(tree_file.read_text()) if tree_file.exists() else {}
    now = scan(root, LEFT_OUT)
    layout = Layout(work / "layout", EPOCH)
    entries = difference(root, before, now)
    if not before:
        # What was left out because its content is the machine's still has to be there.
        for name, mode in (("dev", 0o755), ("proc", 0o755), ("sys", 0o755), ("run", 0o755), ("tmp", 0o1777)):
            entries = [each for each in entries if each[0].name != name] + [directory(name, mode)]
        known = {each[0].name for each in entries}
        places = ("var/log", "var/cache/apt", "var/lib/apt/lists")
        entries += [directory(name) for name in places if name not in known]
        entries += [file("etc/machine-id", b""), file("etc/hostname", b""), file("etc/resolv.conf", b"")]
    layer = layout.add_layer(entries)
    (work / f"{stage}.json").write_text(
        json.dumps({"diff_id": layer.diff_id, "descriptor": layer.descriptor})
    )
    tree_file.write_text(json.dumps(now))


def debian_mirror() -> str:
    """The mirror of this machine's apt when it is a Debian, else Debian's own."""
    asked = ["apt-get", "indextargets", "--format", "$(SITE) $(ORIGIN) $(RELEASE)", "Created-By: Packages"]
    for line in subprocess.run(asked, capture_output=True, text=True, check=False).stdout.splitlines():
        site, origin, *_ = [*line.split(), "", ""]
        if origin == "Debian" and not site.startswith("file:") and "security" not in site:
            return site
    return "http://deb.debian.org/debian"


def keyring() -> str:
    return "/usr/share/keyrings/debian-archive-keyring.gpg"


# ── all of it ────────────────────────────────────────────────────────────────────────────────────────


def build(target: Path) -> None:
    """Write the layout, and the context of httpd with its packages, into *target*: whole, or not at all."""
    work = target.with_name(f"{target.name}.work")
    for leftover in (work, target):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.copytree(HTTPD, work / "httpd")
    (work / "httpd/packages/partial").mkdir(parents=True)
    layout = Layout(work / "layout", EPOCH)
    layout.name(busybox(layout) | hello_world(layout) | debian(layout, work, work / "httpd/packages"))
    work.rename(target)


def push(source: Path, address: str) -> None:
    layout = Layout(source / "layout", EPOCH)
    for descriptor in json.loads((layout.directory / "index.json").read_bytes())["manifests"]:
        name, _, tag = descriptor["annotations"]["org.opencontainers.image.ref.name"].rpartition(":")
        Target(address).push(layout, name, tag, descriptor)
        print(f"  {address}/{name}:{tag}")


def build_httpd(source: Path, address: str, command: str) -> None:
    """``minidock build`` and ``push``, with a state root of their own that goes again."""
    base = f"{address}/library/debian"
    names = [f"{address}/library/httpd:{tag}" for tag in ("latest", "2.4")]

    def minidock(*words: str | Path) -> None:
        environment = os.environ | {"SOURCE_DATE_EPOCH": str(EPOCH)}
        subprocess.run([command, "--root", source / "root", *words], check=True, env=environment)

    try:
        minidock("pull", "--quiet", base)
        minidock("tag", base, "debian")
        tags = [word for name in names for word in ("--tag", name)]
        minidock("build", "--network", "none", "--progress", "plain", *tags, source / "httpd")
        for name in names:
            minidock("push", "--quiet", name)
    finally:
        minidock("reset", "--yes")


def recipe() -> str:
    """Changes when these scripts, the suite or busybox's version do: the images are made again then."""
    digest = hashlib.sha256()
    for source in (Path(__file__), Path(__file__).with_name("oci.py"), *sorted(HTTPD.rglob("*"))):
        digest.update(source.read_bytes() if source.is_file() else b"")
    busybox_version = ["dpkg-query", "--showformat=${Version}", "--show", "busybox-static"]
    digest.update(subprocess.run(busybox_version, capture_output=True, check=False).stdout)
    digest.update(f"{SUITE} {architecture()}".encode())
    return digest.hexdigest()


def main(arguments: list[str]) -> int:
    match arguments:
        case ["build", directory]:
            build(Path(directory).absolute())
        case ["push", directory, address]:
            push(Path(directory).absolute(), address)
        case ["httpd", directory, address, command]:
            build_httpd(Path(directory).absolute(), address, command)
        case ["recipe"]:
            print(recipe())
        case ["stage", work, stage, root]:
            take_stage(Path(work), stage, Path(root))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
