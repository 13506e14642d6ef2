"""Managed volumes: where they come from, what is in them at first, who keeps them alive, when they go."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from worlds import REPOSITORY

from minidock.containers import volumes
from minidock.engine import Engine
from minidock.errors import Conflict, InvalidInput, MinidockError, NotFound

Cli = Callable[..., subprocess.CompletedProcess[Any]]


@pytest.fixture
def engine(busybox: Path) -> Engine:
    return Engine(busybox)


@pytest.fixture
def packed(engine: Engine, busybox_rootfs: Path) -> str:
    """An image with data at /data (owners, modes, links, attributes) that VOLUME makes a volume."""

    def add(archive: tarfile.TarFile, name: str, content: bytes | None = None, **fields: Any) -> None:
        entry = tarfile.TarInfo(name)
        entry.mtime = 1_700_000_000
        for key, value in fields.items():
            setattr(entry, key, value)
        if content is not None:
            entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content) if content is not None else None)

    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(busybox_rootfs, ".", filter=lambda entry: entry)
        add(archive, "data", type=tarfile.DIRTYPE, mode=0o2750, uid=1000, gid=1001)
        xattr = {"SCHILY.xattr.user.colour": "blue"}
        add(archive, "data/page", b"hello\n", mode=0o640, uid=33, gid=34, pax_headers=xattr)
        add(archive, "data/sub", type=tarfile.DIRTYPE, mode=0o1777)
        add(archive, "data/sub/tool", b"#!", mode=0o4755)
        add(archive, "data/link", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(archive, "data/same", type=tarfile.LNKTYPE, linkname="data/page")
        add(archive, "owned", type=tarfile.DIRTYPE, mode=0o711, uid=5, gid=6)
        add(archive, "detour", type=tarfile.SYMTYPE, linkname="/data")
        add(archive, "outside", type=tarfile.SYMTYPE, linkname="../../../../../../etc")
    file.seek(0)
    engine.import_(file, "packed", changes=["VOLUME /data", 'CMD ["true"]'])
    return "packed"


def names(engine: Engine, **filters: list[str]) -> list[str]:
    return [each["Name"] for each in engine.volumes(filters)]


def data_of(engine: Engine, name: str) -> Path:
    return Path(engine.inspect_volume(name)["Mountpoint"])


# ── where they come from ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.vm
def test_a_named_volume_outlives_its_containers(engine: Engine) -> None:
    engine.run("busybox", "echo kept > /data/x", volume=["web:/data"], rm=True)
    assert engine.run("busybox", "cat /other/x", volume=["web:/other"], rm=True).output == "kept\n"
    assert (data_of(engine, "web") / "x").read_text() == "kept\n"
    assert names(engine) == ["web"]


def test_every_way_to_ask_for_a_volume(engine: Engine, packed: str) -> None:
    options = {
        "-v name": {"volume": ["one:/data"]},
        "-v path": {"volume": ["/data"]},
        "--mount name": {"mount": ["type=volume,src=two,dst=/data"]},
        "--mount": {"mount": ["dst=/data"]},
        "VOLUME": {},
    }
    for way, asked in options.items():
        container = engine.create(packed, name=way.replace(" ", "").replace("-", "x"), **asked)
        (mount,) = engine.inspect(container.id)["Mounts"]
        assert (mount["Type"], mount["Destination"], mount["Driver"]) == ("volume", "/data", "local"), way
        assert mount["Source"] == str(data_of(engine, mount["Name"])), way
        assert (Path(mount["Source"]) / "page").read_text() == "hello\n", way
        anonymous = way in ("-v path", "--mount", "VOLUME")
        assert (len(mount["Name"]) == 64) == anonymous, way
        labels = engine.inspect_volume(mount["Name"])["Labels"] or {}
        assert (volumes.ANONYMOUS in labels) == anonymous, way


def test_a_volume_of_the_image_gives_way_to_what_is_asked_for(engine: Engine, packed: str) -> None:
    for asked in ({"tmpfs": ["/data"]}, {"volume": ["/tmp:/data"]}):
        engine.run(packed, "true", rm=True, **asked)
        container = engine.create(packed, **asked)
        assert not [mount for mount in container.spec.mounts if mount.kind == "volume"]
    assert names(engine) == []


def test_volume_options_of_mount(engine: Engine) -> None:
    engine.create(
        "busybox", mount=["src=web,dst=/d,volume-label=a=1,volume-opt=type=tmpfs,volume-opt=device=tmpfs"]
    )
    found = engine.inspect_volume("web")
    assert (found["Labels"], found["Options"]) == ({"a": "1"}, {"type": "tmpfs", "device": "tmpfs"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"volume": ["x:/d"]}, "volume name is too short"),
        ({"volume": ["a b:/d"]}, "includes invalid characters for a local volume name"),
        ({"volume": ["/d"], "volume_driver": "nfs"}, 'plugin "nfs" not found'),
        ({"mount": ["src=web,dst=/d,volume-opt=colour=red"]}, 'invalid option: "colour"'),
        ({"mount": ["src=web,dst=/d,volume-opt=o=bind"]}, 'missing required option: "device"'),
        ({"volume": ["/d"], "mount": ["dst=/d"]}, "Duplicate mount point: /d"),
        ({"volumes_from": ["nope"]}, "No such container: nope"),
        ({"volumes_from": [":ro"]}, "invalid volumes-from specification"),
        ({"volume": ["/etc/passwd"]}, "cannot mount volume over existing file, file exists /etc/passwd"),
    ],
)
def test_a_mistake_leaves_neither_container_nor_volume(
    engine: Engine, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(MinidockError, match=message):
        engine.create("busybox", name="web", **options)
    assert engine.containers() == []
    assert names(engine) == []


# ── what is in it at first ───────────────────────────────────────────────────────────────────────────


@pytest.mark.vm
def test_an_empty_volume_gets_what_the_image_has(engine: Engine, packed: str) -> None:
    engine.create(packed, volume=["web:/data"])
    data = data_of(engine, "web")
    told = {
        path.relative_to(data).as_posix(): (oct(found.st_mode), found.st_uid, found.st_gid)
        for path in [data, *sorted(data.rglob("*"))]
        if (found := path.lstat())
    }
    assert told == {
        ".": ("0o42750", 1000, 1001),
        "link": ("0o120777", 0, 0),
        "page": ("0o100640", 33, 34),
        "same": ("0o100640", 33, 34),
        "sub": ("0o41777", 0, 0),
        "sub/tool": ("0o104755", 0, 0),
    }
    assert os.readlink(data / "link") == "/etc/passwd"
    assert os.getxattr(data / "page", "user.colour") == b"blue"
    assert (data / "page").stat().st_ino == (data / "same").stat().st_ino
    assert int((data / "page").stat().st_mtime) == 1_700_000_000


def test_an_empty_directory_gives_its_owner_and_mode(engine: Engine, packed: str) -> None:
    engine.create(packed, volume=["web:/owned"])
    found = data_of(engine, "web").stat()
    assert (oct(found.st_mode), found.st_uid, found.st_gid) == ("0o40711", 5, 6)


@pytest.mark.parametrize(
    "asked", [{"volume": ["web:/data:nocopy"]}, {"mount": ["src=web,dst=/data,volume-nocopy"]}]
)
def test_nocopy(engine: Engine, packed: str, asked: dict[str, Any]) -> None:
    engine.create(packed, **asked)
    assert os.listdir(data_of(engine, "web")) == []


def test_only_an_empty_volume_is_filled_and_only_once(engine: Engine, packed: str) -> None:
    engine.create_volume("web")
    (data_of(engine, "web") / "mine").touch()
    engine.create(packed, volume=["web:/data"])
    assert os.listdir(data_of(engine, "web")) == ["mine"]
    engine.create(packed, volume=["other:/data"])
    (data_of(engine, "other") / "page").write_text("changed\n")
    engine.create(packed, volume=["other:/data"])
    assert (data_of(engine, "other") / "page").read_text() == "changed\n"


def test_a_bind_mount_hides_and_copies_nothing(engine: Engine, packed: str, tmp_path: Path) -> None:
    host = tmp_path / "host"
    assert engine.run(packed, "ls -A /data", volume=[f"{host}:/data"], rm=True).output == ""
    assert os.listdir(host) == []


def test_a_link_in_the_image_is_followed_inside_it(engine: Engine, packed: str) -> None:
    engine.create(packed, volume=["web:/detour", "etc:/outside"])
    assert (data_of(engine, "web") / "page").exists()
    found = set(os.listdir(data_of(engine, "etc")))
    assert "passwd" in found
    assert found <= {"group", "hostname", "hosts", "mtab", "passwd", "resolv.conf"}  # none of the host's


def test_a_volume_that_another_container_has_mounted_is_filled_in_place(engine: Engine, packed: str) -> None:
    watcher = engine.run_detached("busybox", ["sleep", "100"], volume=["web:/seen"])
    engine.create(packed, volume=["web:/data"])
    assert engine.exec(watcher.id, ["cat", "/seen/page"]).output == "hello\n"


def test_a_fill_that_fails_leaves_nothing(
    engine: Engine, packed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minidock.containers import filling

    def fail(*_: object) -> None:
        raise InvalidInput("no")

    monkeypatch.setattr(filling, "fill", fail)
    with pytest.raises(InvalidInput):
        engine.create(packed)
    assert (engine.containers(), names(engine)) == ([], [])


def test_private_users_own_what_was_copied(engine: Engine, packed: str) -> None:
    done = engine.run(packed, "stat -c '%u %g %n' /data /data/page", userns="private", rm=True)
    assert done.output.splitlines() == ["1000 1001 /data", "33 34 /data/page"]


# ── sharing ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_data_packed_volume_container_is_never_started(engine: Engine, packed: str, tmp_path: Path) -> None:
    (tmp_path / "conf").write_text("from the host\n")
    engine.create(packed, name="vc", volume=[f"{tmp_path}:/conf"])
    done = engine.run(
        "busybox", "cat /data/page /conf/conf; echo x > /data/new", volumes_from=["vc"], rm=True
    )
    assert done.output == "hello\nfrom the host\n"
    assert engine.run("busybox", "cat /data/new", volumes_from=["vc"], rm=True).output == "x\n"


def test_volumes_from_read_only_and_overridden(engine: Engine, packed: str) -> None:
    engine.create(packed, name="vc", volume=["a1:/data", "b1:/more:ro"])
    done = engine.run(
        "busybox", "touch /data/x /more/x; echo $?", volumes_from=["vc:ro"], volume=["c1:/more"], rm=True
    )
    assert "/data/x: Read-only file system" in done.output
    assert "/more" not in done.output
    rw = engine.run("busybox", "touch /data/x /more/x", volumes_from=["vc:rw"], rm=True)
    assert "/more/x: Read-only" in rw.output  # rw does not lift what is read-only there
    assert "/data" not in rw.output


def test_volumes_from_several_containers(engine: Engine) -> None:
    engine.create("busybox", name="c1", volume=["a1:/a", "a2:/both"])
    engine.create("busybox", name="c2", volume=["b1:/b", "b2:/both"])
    container = engine.create("busybox", volumes_from=["c1", "c2"])
    found = {mount["Destination"]: mount["Name"] for mount in engine.inspect(container.id)["Mounts"]}
    assert found == {"/a": "a1", "/b": "b1", "/both": "b2"}
    assert engine.inspect(container.id)["HostConfig"]["VolumesFrom"] == ["c1", "c2"]


def test_a_subpath_and_its_borders(engine: Engine) -> None:
    engine.run(
        "busybox",
        "mkdir -p /v/a/b; echo in > /v/a/b/file; ln -s /etc /v/out; ln -s a/b /v/short; ln -s ../.. /v/a/up",
        volume=["web:/v"],
        rm=True,
    )
    for path in ("a/b", "short"):
        mount = [f"src=web,dst=/d,volume-subpath={path}"]
        assert engine.run("busybox", "cat /d/file", mount=mount, rm=True).output == "in\n"
    assert (
        engine.run("busybox", "cat /f", mount=["src=web,dst=/f,volume-subpath=a/b/file"], rm=True).output
        == "in\n"
    )
    for path in ("out", "a/up", "../../../etc", "nope"):
        with pytest.raises(InvalidInput, match="cannot access path"):
            engine.run("busybox", "true", mount=[f"src=web,dst=/d,volume-subpath={path}"], rm=True)


# ── options of the driver ────────────────────────────────────────────────────────────────────────────


@pytest.mark.vm
def test_a_volume_that_is_a_directory_of_the_host(engine: Engine, packed: str, tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.mkdir()
    for name, options in (("rw1", "bind"), ("ro1", "bind,ro")):
        engine.create_volume(name, options={"type": "none", "o": options, "device": str(host)})
    engine.run(packed, "echo x > /data/new", volume=["rw1:/data"], rm=True)
    assert sorted(os.listdir(host)) == ["link", "new", "page", "same", "sub"]
    assert "Read-only" in engine.run("busybox", "touch /d/y", volume=["ro1:/d"], rm=True).output
    engine.remove_volume("rw1")
    assert (host / "new").exists()


@pytest.mark.vm
def test_a_volume_in_memory(engine: Engine) -> None:
    engine.create_volume("mem", options={"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=7,nosuid"})
    done = engine.run("busybox", "mount | grep /d; stat -c %u /d", volume=["mem:/d"], rm=True)
    assert "tmpfs on /d type tmpfs (rw,nosuid" in done.output
    assert "size=1024k" in done.output
    assert done.output.splitlines()[-1] == "7"
    assert str(engine.root) not in Path("/proc/self/mountinfo").read_text()


def test_a_device_that_cannot_be_mounted(engine: Engine) -> None:
    engine.create_volume("gone", options={"type": "none", "o": "bind", "device": "/no/such"})
    engine.create_volume("odd", options={"type": "nosuchfs", "device": "x"})
    for name, reason in (("gone", "no such file or directory"), ("odd", "no such device")):
        with pytest.raises(MinidockError, match=f"failed to mount local volume: .*{reason}"):
            engine.run("busybox", "true", volume=[f"{name}:/d"])


# ── the end ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_volume_in_use_stays(engine: Engine) -> None:
    container = engine.create("busybox", name="web", volume=["data:/d"])
    with pytest.raises(Conflict, match=rf"remove data: volume is in use - \[{container.id}\]"):
        engine.remove_volume("data", force=True)
    found = engine.inspect_volume("data")["Containers"]
    assert found == {container.id: {"Name": "web", "Destination": "/d", "RW": True}}
    engine.rm("web", volumes=True)
    assert names(engine) == ["data"]  # it has a name
    engine.remove_volume("data")
    assert names(engine) == []
    with pytest.raises(NotFound, match="get data: no such volume"):
        engine.remove_volume("data")
    engine.remove_volume("data", force=True)


def test_anonymous_volumes_go_with_their_container(engine: Engine, packed: str) -> None:
    engine.run(packed, "true", volume=["/more", "named:/n"], rm=True)
    assert names(engine) == ["named"]
    kept = engine.create(packed)
    engine.rm(kept.id)
    (left,) = set(names(engine)) - {"named"}
    gone = engine.create(packed)
    engine.rm(gone.id, volumes=True)
    assert set(names(engine)) == {"named", left}


def test_the_last_user_takes_an_anonymous_volume_with_it(engine: Engine) -> None:
    engine.create("busybox", name="a1", volume=["/d"])
    engine.create("busybox", name="b1", volumes_from=["a1"])
    engine.rm("a1", volumes=True)
    assert len(names(engine)) == 1
    engine.rm("b1", volumes=True)
    assert names(engine) == []


def test_an_anonymous_volume_that_is_named_later_is_a_named_one(engine: Engine) -> None:
    engine.create("busybox", name="a1", volume=["/d"])
    (name,) = names(engine)
    engine.create("busybox", name="b1", volume=[f"{name}:/d"])
    engine.rm("a1", volumes=True)
    engine.rm("b1", volumes=True)
    assert names(engine) == [name]


def test_prune(engine: Engine) -> None:
    engine.create_volume("named", labels={"keep": "1"})
    engine.create_volume()
    engine.create("busybox", volume=["/used"])
    assert len(engine.prune_volumes()[0]) == 1
    assert engine.prune_volumes({"label!": ["keep"]}, all=True) == ([], 0)
    (data_of(engine, "named") / "x").write_bytes(b"12345")
    assert engine.prune_volumes(all=True) == (["named"], 5)
    assert len(names(engine)) == 1


def test_filters(engine: Engine) -> None:
    engine.create_volume("web-1", labels={"tier": "front"})
    engine.create_volume("db")
    engine.create("busybox", volume=["db:/d"])
    assert names(engine, dangling=["true"]) == ["web-1"]
    assert names(engine, dangling=["0"]) == ["db"]
    assert names(engine, name=["eb-"]) == ["web-1"]
    assert names(engine, label=["tier=front"]) == ["web-1"]
    assert names(engine, driver=["local"]) == ["db", "web-1"]
    assert names(engine, driver=["nfs"]) == []
    with pytest.raises(InvalidInput, match="invalid filter 'colour'"):
        names(engine, colour=["red"])


def test_a_volume_taken_away_by_hand(engine: Engine) -> None:
    container = engine.create("busybox", ["true"], volume=["data:/d"])
    os.rename(engine.root / "volumes/data", engine.root / "volumes/moved")
    with pytest.raises(NotFound, match="get data: no such volume"):
        engine.start(container.id)


def test_a_damaged_file_is_named_and_the_files_stay(engine: Engine) -> None:
    engine.create_volume("data")
    (engine.root / "volumes/data/volume.json").write_text("{")
    told: list[MinidockError] = []
    engine.on_damage = told.append
    assert names(engine) == ["data"]
    assert "volume.json" in told[0].message
    assert [each.kind for each in engine.leftovers()] == ["volume"]
    engine.remove_volume("data")
    assert names(engine) == []


# ── at the same time, and cut short ──────────────────────────────────────────────────────────────────

_RACE = """
import sys
sys.path.insert(0, {repository!r})
from minidock.engine import Engine
from minidock.errors import Conflict, NotFound
engine = Engine({root!r})
for turn in range(12):
    try:
        {action}
    except (Conflict, NotFound):
        pass
"""


def test_create_start_and_remove_race_for_one_name(engine: Engine, packed: str) -> None:
    """Whatever comes first: no container ever finds its volume gone, and no volume is half there."""
    actions = [
        "engine.create_volume('data')",
        "engine.remove_volume('data')",
        "assert engine.run('packed', 'cat /data/page', volume=['data:/data'], rm=True).output == 'hello\\n'",
        "engine.create('packed', volume=['data:/data']); engine.prune_containers()",
    ]
    running = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                _RACE.format(repository=str(REPOSITORY), root=str(engine.root), action=action),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        for action in actions
    ]
    for process in running:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert set(names(engine)) <= {"data"}
    assert volumes.unfinished(engine.root) == []


_KILLED = """
import os, signal, sys
sys.path.insert(0, {repository!r})
from minidock import files
from minidock.containers import volumes
real = {where}
def die(*arguments, **keywords):
    real(*arguments, **keywords) if {after} else None
    os.kill(os.getpid(), signal.SIGKILL)
{where} = die
from minidock.engine import Engine
engine = Engine({root!r})
{action}
"""


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("where", "action"),
    [
        ("files.write_json", "engine.create_volume('data')"),
        ("os.rename", "engine.create_volume('data')"),
        ("os.rename", "engine.remove_volume('there')"),
        ("files.remove_tree", "engine.remove_volume('there')"),
        ("files.sync_directory", "engine.create_volume('data')"),
        ("volumes.settle", "engine.create('packed', volume=['data:/data'])"),
    ],
)
def test_a_kill_in_the_middle(engine: Engine, packed: str, where: str, action: str, after: bool) -> None:
    """Afterwards the volume is there whole, or not at all, and the next command clears up."""
    engine.create_volume("there")
    program = _KILLED.format(
        repository=str(REPOSITORY), root=str(engine.root), where=where, action=action, after=after
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    for name in names(engine):
        assert json.loads((engine.root / f"volumes/{name}/volume.json").read_text())["name"] == name
        assert (
            not (engine.root / f"volumes/{name}/_data/page").exists()
            or (engine.root / f"volumes/{name}/_data/sub/tool").exists()
        )
    engine.create_volume("data")
    engine.create(packed, volume=["data:/data"])
    assert (data_of(engine, "data") / "page").read_text() == "hello\n"
    engine.volumes()
    engine.prune_volumes()
    assert volumes.unfinished(engine.root) == []
    assert ".filling" not in os.listdir(engine.root / "volumes/data")


def test_containers_made_at_once_fill_a_volume_once(engine: Engine, packed: str) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\nfrom minidock.engine import Engine\n"
        f"Engine({str(engine.root)!r}).create('packed', volume=['data:/data'])"
    )
    running = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(6)]
    assert [process.wait() for process in running] == [0] * 6
    assert sorted(os.listdir(data_of(engine, "data"))) == ["link", "page", "same", "sub"]
    assert len(engine.inspect_volume("data")["Containers"]) == 6
