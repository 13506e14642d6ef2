"""The checks of lab 05. Each tries the student's functions in a world of its own (minidock.lab.checks)."""

import hashlib
import io
import json
import os
import shutil
import stat
import tarfile
from pathlib import Path

from minidock.errors import InvalidInput
from minidock.images import layer
from minidock.lab.checks import World, expect, task


def _sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


# --- task 1 --------------------------------------------------------------------------------------

BLOCKS = [b"one", b"two", b"three"]
GOOD = _sha256(b"".join(BLOCKS))


def _read(world: World, blocks: list[bytes], digest: str, call: str):
    """What verified passes on: [the blocks as text, whether it raised InvalidInput in the end]."""

    def story():
        passed, refused = [], False
        try:
            for block in layer.verified(iter(blocks), digest):
                passed.append(block.decode())
        except InvalidInput:
            refused = True
        return [passed, refused]

    return world.tell(story, call=call).value


@task(1)
def test_good_blocks_pass(world: World):
    call = "list(verified([b'one', b'two', b'three'], their digest))"
    passed, refused = _read(world, BLOCKS, GOOD, call)
    expect(
        passed == ["one", "two", "three"] and not refused,
        call=call,
        result=f"{passed}" + (", then InvalidInput" if refused else ""),
        expected="the three blocks, unchanged, and no error",
        next_step="`yield block` passes a block on. Compare whole digests, with their sha256: in front.",
    )


@task(1, needs=("test_good_blocks_pass",))
def test_a_changed_block_is_noticed(world: World):
    for changed in range(3):
        blocks = [b"XXX" if number == changed else block for number, block in enumerate(BLOCKS)]
        call = f"verified({blocks}, the digest of {BLOCKS})"
        _, refused = _read(world, blocks, GOOD, call)
        expect(
            refused,
            call=call,
            result="no error",
            expected="InvalidInput after the last block",
            next_step="Update the hash with every block; compare when the loop has ended.",
        )


@task(1, needs=("test_good_blocks_pass",))
def test_nothing_is_kept(world: World):
    def story():
        taken = []

        def source():
            for number in range(1000):
                taken.append(number)
                yield b"x"

        first = next(iter(layer.verified(source(), _sha256(b"x" * 1000))))
        return [first.decode(), len(taken)]

    told = world.tell(story, call="next(verified(a thousand blocks, digest))")
    expect(
        told.value == ["x", 1],
        call="the first block of verified(a thousand blocks, digest)",
        result=f"it read {told.value[1]} blocks before it gave the first",
        expected="one block read, one block given: a layer may be larger than memory",
        next_step="Write a generator: yield inside the loop, no list.",
    )


@task(1, needs=("test_good_blocks_pass",))
def test_only_strong_hashes_count(world: World):
    good = "sha512:" + hashlib.sha512(b"x").hexdigest()
    weak = "md5:" + hashlib.md5(b"x").hexdigest()
    _, refused = _read(world, [b"x"], good, "verified([b'x'], its sha512)")
    expect(
        not refused,
        call="verified([b'x'], its sha512)",
        result="InvalidInput",
        expected="no error: sha512 is as good",
        next_step='The algorithm stands before the colon: hashlib.new("sha512").',
    )
    _, refused = _read(world, [b"x"], weak, "verified([b'x'], its md5)")
    expect(
        refused,
        call="verified([b'x'], its md5)",
        result="no error",
        expected="InvalidInput: anybody can make two files with the same md5",
        next_step="Accept sha256 and sha512, and nothing else.",
    )


# --- task 2 --------------------------------------------------------------------------------------

LAYERS = [_sha256(name) for name in (b"base", b"tools", b"app")]
CHAIN = [LAYERS[0]]
for each in LAYERS[1:]:
    CHAIN.append(_sha256(f"{CHAIN[-1]} {each}".encode()))


def _chain(world: World, count: int):
    return world.tell(
        lambda: layer.chain_ids(LAYERS[:count]), call=f"chain_ids(the diff ids of {count} layers)"
    ).value


def _expect_chain(got, wanted, *, call: str, next_step: str):
    def cut(chain):
        return [str(each)[:17] + "…" for each in chain or ()]

    expect(got == wanted, call=call, result=cut(got), expected=f"{cut(wanted)}", next_step=next_step)


@task(2)
def test_the_lowest_layer_is_its_own_chain(world: World):
    _expect_chain(
        _chain(world, 1),
        CHAIN[:1],
        call="chain_ids of one layer",
        next_step="There is nothing below the first layer: its chain id is its diff id.",
    )


@task(2, needs=("test_the_lowest_layer_is_its_own_chain",))
def test_two_layers_are_hashed_together(world: World):
    _expect_chain(
        _chain(world, 2),
        CHAIN[:2],
        call="chain_ids of two layers",
        next_step='Hash the text f"{below} {diff_id}": the lower one first, one space, no newline.',
    )


@task(2, needs=("test_two_layers_are_hashed_together",))
def test_the_chain_goes_on(world: World):
    _expect_chain(
        _chain(world, 3),
        CHAIN,
        call="chain_ids of three layers",
        next_step="Before the space stands the *chain id* of the layer below, not its diff id.",
    )


# --- unpacking -----------------------------------------------------------------------------------


def _entry(name: str, kind: bytes = tarfile.REGTYPE, **fields) -> tuple[tarfile.TarInfo, bytes]:
    data = fields.pop("data", b"")
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.mtime = kind, len(data), 1_000_000_000
    entry.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in fields.items():
        setattr(entry, key, value)
    return entry, data


def _file(name: str, text: str = "", **fields):
    return _entry(name, data=text.encode(), **fields)


def _directory(name: str, **fields):
    return _entry(name, tarfile.DIRTYPE, **fields)


def _link(name: str, to: str, *, hard: bool = False):
    return _entry(name, tarfile.LNKTYPE if hard else tarfile.SYMTYPE, linkname=to)


def _archive(*entries) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for entry, data in entries:
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


class _Forwards:
    """A stream as the engine gives it: it can be read, and nothing else."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, length: int = -1) -> bytes:
        return self._file.read(length)


def _unpack(world: World, *entries, look, max_size: int = 1 << 20, next_step: str = ""):
    """What *look*(target, returned size) finds; "refused" is the size when InvalidInput was raised."""
    names = ", ".join(entry.name for entry, _ in entries)

    def story():
        target = world.scratch / "target"
        target.mkdir()
        try:
            size = layer.unpack(_Forwards(_archive(*entries)), target, max_size)
        except InvalidInput:
            size = "refused"
        return look(target, size)

    return world.tell(story, call=f"unpack(an archive of {names})", next_step=next_step).value


def _tree(target: Path, size):
    """{name: text of the file, "directory", or "→ link"}"""
    found = {}
    for path in sorted(target.rglob("*")):
        name = str(path.relative_to(target))
        if path.is_symlink():
            found[name] = f"→ {os.readlink(path)}"
        elif path.is_dir():
            found[name] = "directory"
        elif path.is_file():
            found[name] = path.read_text()
        else:
            found[name] = "something else"
    return found


# --- task 3 --------------------------------------------------------------------------------------


@task(3)
def test_files_and_directories_are_made(world: World):
    entries = (_directory("etc/"), _file("etc/hostname", "box\n"), _file("deep/er/file", "x"))
    got = _unpack(world, *entries, look=lambda target, size: [_tree(target, size), size])
    wanted = {"deep": "directory", "deep/er": "directory", "deep/er/file": "x"}
    wanted |= {"etc": "directory", "etc/hostname": "box\n"}
    expect(
        got == [wanted, 5],
        call="unpack(an archive of etc/, etc/hostname, deep/er/file)",
        result=f"{got[0]}, and it returned {got[1]}",
        expected=f"{wanted}, and 5, the bytes of both files",
        next_step="Make the directories that an entry needs (deep, deep/er), and add up entry.size.",
    )


@task(3, needs=("test_files_and_directories_are_made",))
def test_modes_owners_and_times_are_kept(world: World):
    entries = (
        _directory("home/", mode=0o2750, uid=1000, gid=50, mtime=1_100_000_000),
        _file("home/tool", "x", mode=0o4755, uid=1000, gid=50),
    )

    def look(target, size):
        facts = [os.lstat(target / name) for name in ("home", "home/tool")]
        return [[oct(stat.S_IMODE(f.st_mode)), f.st_uid, f.st_gid, int(f.st_mtime)] for f in facts]

    got = _unpack(world, *entries, look=look)
    wanted = [["0o2750", 1000, 50, 1_100_000_000], ["0o4755", 1000, 50, 1_000_000_000]]
    expect(
        got == wanted,
        call="unpack(an archive of home/ and home/tool), then mode, owner, group and time of both",
        result=got,
        expected=f"{wanted}",
        next_step="os.chown before os.chmod: it clears the set-uid bit. Times of directories at the end.",
    )


@task(3, needs=("test_files_and_directories_are_made",))
def test_links_are_links(world: World):
    entries = (_file("real", "x"), _link("soft", "/etc/passwd"), _link("second", "real", hard=True))

    def look(target, size):
        same = os.path.samestat(os.lstat(target / "real"), os.lstat(target / "second"))
        return [os.readlink(target / "soft"), same]

    got = _unpack(world, *entries, look=look)
    expect(
        got == ["/etc/passwd", True],
        call="unpack(real, soft → /etc/passwd, second = hard link to real)",
        result=f"soft points to {got[0]}; second is {'' if got[1] else 'not '}the same file as real",
        expected="soft points to /etc/passwd (that is harmless), and second is the same file as real",
        next_step="os.symlink takes any text, as it is; os.link needs the place of the other name.",
    )


@task(3, needs=("test_files_and_directories_are_made",))
def test_the_later_entry_wins(world: World):
    entries = (
        _file("file", "old"),
        _directory("was/"),
        _file("was/inside", "old"),
        _directory("stays/"),
        _file("stays/inside", "kept"),
        _file("file", "new"),
        _file("was", "now a file"),
        _directory("stays/"),
    )
    got = _unpack(world, *entries, look=_tree)
    wanted = {"file": "new", "stays": "directory", "stays/inside": "kept", "was": "now a file"}
    expect(
        got == wanted,
        call="unpack(an archive in which file, was and stays come twice)",
        result=got,
        expected=f"{wanted}",
        next_step="Remove what is in the way, a whole directory too. But two directories become one.",
    )


# --- task 4 --------------------------------------------------------------------------------------

MAKES = ("test_links_are_links", "test_the_later_entry_wins")


def _outside(world: World, *entries, max_size: int = 1 << 20):
    """Unpack with a precious file beside the target: [its text, how many names it has, what is beside]."""

    def look(target, size):
        place = world.scratch / "precious"
        file = place / "file"
        return [file.read_text(), file.stat().st_nlink, sorted(os.listdir(place)), size]

    def story():
        place = world.scratch / "precious"
        place.mkdir()
        (place / "file").write_text("mine")
        target = world.scratch / "target"
        target.mkdir()
        try:
            size = layer.unpack(_Forwards(_archive(*entries)), target, max_size)
        except InvalidInput:
            size = "refused"
        except (OSError, tarfile.TarError) as error:  # it stayed inside, if by luck
            size = f"{type(error).__name__}: {error}"
        return look(target, size)

    names = ", ".join(entry.name for entry, _ in entries)
    return world.tell(story, call=f"unpack(an archive of {names})").value


def _expect_untouched(got, *, call: str, next_step: str, refused: bool = False):
    text, names, beside, size = got
    expect(
        [text, names, beside] == ["mine", 1, ["file"]],
        call=call,
        result=f"outside, the file says {text!r}, has {names} name(s), and beside it are {beside}",
        expected="nothing outside of target was touched",
        next_step=next_step,
    )
    expect(
        not refused or size == "refused",
        call=call,
        result=f"it returned {size}",
        expected="InvalidInput: an honest archive has no such entry",
        next_step=next_step,
    )


@task(4, needs=MAKES)
def test_two_dots_lead_nowhere(world: World):
    for name in ("../precious/file", "a/../../precious/new"):
        _expect_untouched(
            _outside(world, _file(name, "stolen")),
            call=f"unpack(an archive with the entry {name})",
            next_step="Split the name at each slash. A part `..` is refused.",
            refused=True,
        )


@task(4, needs=MAKES)
def test_a_name_from_the_root_lands_inside(world: World):
    outside = world.scratch / "precious"
    got = _outside(world, _file(f"{outside}/file", "stolen"), _file("/etc/inside", "x"))
    _expect_untouched(
        got,
        call=f"unpack(an archive with the entry {outside}/file)",
        next_step="Path(target) / '/etc' is /etc! Leave out the empty part before the first slash.",
    )


@task(4, needs=MAKES)
def test_a_link_is_no_way_out(world: World):
    outside = str(world.scratch / "precious")
    for target in (outside, "../precious"):
        _expect_untouched(
            _outside(world, _link("door", target), _file("door/new", "stolen")),
            call=f"unpack(door → {target}, door/new)",
            next_step="Look at each directory on the way: is_symlink()? Then refuse the entry.",
        )


@task(4, needs=MAKES)
def test_nothing_is_written_through_a_link(world: World):
    outside = str(world.scratch / "precious/file")
    _expect_untouched(
        _outside(world, _link("name", outside), _file("name", "stolen")),
        call=f"unpack(name → {outside}, then a file called name)",
        next_step="Remove the link first, and open the new file with mode 'x': it must not exist.",
    )


@task(4, needs=("test_two_dots_lead_nowhere", "test_a_name_from_the_root_lands_inside"))
def test_a_hard_link_stays_inside(world: World):
    outside = str(world.scratch / "precious/file")
    for to in ("../precious/file", outside):
        _expect_untouched(
            _outside(world, _link("name", to, hard=True)),
            call=f"unpack(name = hard link to {to})",
            next_step="The other name is a path in the archive, too: find its place the same way.",
        )


@task(4, needs=MAKES)
def test_a_bomb_is_refused(world: World):
    entries = (_file("a", "x" * 600), _file("b", "x" * 600))
    got = _unpack(world, *entries, look=lambda target, size: size, max_size=1000)
    expect(
        got == "refused",
        call="unpack(two files of 600 bytes, max_size=1000)",
        result=f"it returned {got}",
        expected="InvalidInput: together they are too large",
        next_step="Add up entry.size, and look at the sum before you write.",
    )


# --- task 5 --------------------------------------------------------------------------------------


@task(5, needs=MAKES)
def test_a_whiteout_becomes_a_device(world: World):
    def look(target, size):
        found = {name: os.lstat(target / "etc" / name) for name in os.listdir(target / "etc")}
        return {name: [stat.S_ISCHR(f.st_mode), f.st_rdev] for name, f in sorted(found.items())}

    got = _unpack(world, _directory("etc/"), _file("etc/.wh.gone"), look=look)
    expect(
        got == {"gone": [True, 0]},
        call="unpack(etc/, etc/.wh.gone), then list etc",
        result=f"{{name: [is a character device, number]}} is {got}",
        expected="{'gone': [True, 0]}: a character device with the number 0/0, and nothing else",
        next_step="os.mknod(path of gone, stat.S_IFCHR, os.makedev(0, 0)) instead of a file.",
    )


@task(5, needs=MAKES)
def test_an_opaque_mark_becomes_an_attribute(world: World):
    def look(target, size):
        try:
            value = os.getxattr(target / "etc", "trusted.overlay.opaque").decode()
        except OSError:
            value = "none"
        return [value, sorted(os.listdir(target / "etc"))]

    got = _unpack(world, _directory("etc/"), _file("etc/.wh..wh..opq"), _file("etc/new"), look=look)
    expect(
        got == ["y", ["new"]],
        call="unpack(etc/, etc/.wh..wh..opq, etc/new), then the attribute of etc and its names",
        result=f"{got[0]}, and the names {got[1]}",
        expected="y, and the name new",
        next_step='os.setxattr(the directory, OPAQUE, b"y"); the mark itself is no whiteout.',
    )


# --- task 6 --------------------------------------------------------------------------------------

DIARY = """

def _in_the_diary(function):
    import functools

    @functools.wraps(function)
    def written(*arguments, **named):
        with open({diary!r}, "a") as file:
            file.write(function.__name__ + "\\n")
        return function(*arguments, **named)

    return written


verified, chain_ids, unpack = map(_in_the_diary, (verified, chain_ids, unpack))
"""


def _image(directory: Path) -> tuple[Path, list[str]]:
    """An image of two layers, as `docker save` writes it; returns the archive and the diff ids."""
    busybox = Path(shutil.which("busybox", path="/bin:/usr/bin") or "").read_bytes()
    program = _entry("bin/busybox", data=busybox, mode=0o755)
    lower = _archive(program, _link("bin/sh", "busybox"), _file("a", "lower\n"), _file("b", "lower\n"))
    upper = _archive(_file("a", "upper\n"), _file(".wh.b"))
    diff_ids = [_sha256(lower), _sha256(upper)]
    config = {"architecture": "", "os": "", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    names = [{"Config": "config", "RepoTags": ["two:layers"], "Layers": ["lower", "upper"]}]
    documents = {"config": json.dumps(config), "manifest.json": json.dumps(names)}
    archive = directory / "two.tar"
    parts = [_file(name, text) for name, text in documents.items()]
    archive.write_bytes(_archive(*parts, _entry("lower", data=lower), _entry("upper", data=upper)))
    return archive, diff_ids


@task(
    6,
    needs=(
        "test_a_changed_block_is_noticed",
        "test_nothing_is_kept",
        "test_only_strong_hashes_count",
        "test_the_chain_goes_on",
        "test_modes_owners_and_times_are_kept",
        "test_two_dots_lead_nowhere",
        "test_a_name_from_the_root_lands_inside",
        "test_a_link_is_no_way_out",
        "test_nothing_is_written_through_a_link",
        "test_a_hard_link_stays_inside",
        "test_a_bomb_is_refused",
        "test_a_whiteout_becomes_a_device",
        "test_an_opaque_mark_becomes_an_attribute",
    ),
)
def test_a_real_image_runs_on_your_layer(minidock, tmp_path):
    # Your file, with a diary: each call of a function is one line in it.
    yours, diary = tmp_path / "yours", tmp_path / "diary"
    yours.mkdir()
    source = (minidock.layers / "layer.py").read_text()
    (yours / "layer.py").write_text(source + DIARY.format(diary=str(diary)))
    archive, diff_ids = _image(tmp_path)
    minidock("--layers", yours, "load", "--input", archive)
    said = minidock("--layers", yours, "run", "--rm", "two:layers", "/bin/busybox", "sh", "-c", "cat a; ls")
    removed = minidock("--layers", yours, "rmi", "two:layers")
    expect(
        said.split()[:1] == ["upper"] and "b" not in said.split(),
        call="minidock --layers … load an image of two layers; the upper one changes a and deletes b",
        result=f"a container of it sees {said.split()}",
        expected="the a of the upper layer, and no b",
        next_step="Look into the layers: MINIDOCK_ROOT/layers/*/. Is the whiteout there?",
    )
    top = _sha256(f"{diff_ids[0]} {diff_ids[1]}".encode())
    called = set(diary.read_text().split())
    expect(
        called == {"verified", "unpack", "chain_ids"} and top in removed,
        call="minidock --layers … load, run and rmi",
        result=f"the engine called {', '.join(sorted(called))}; rmi said {removed.split()}",
        expected=f"all three of your functions were called; rmi names the chain id {top[:19]}…",
        next_step="Try it by hand: minidock --layers ~/mydock load …, then rmi.",
    )
