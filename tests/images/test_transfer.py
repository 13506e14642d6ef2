"""Pull and push as a whole: what arrives, what survives, and what is never half there."""

from __future__ import annotations

import fcntl
import gzip
import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from image_samples import Sample, check_layout, digest, sample, tar_of
from proxy import Proxy
from registry_case import Puller, connect, running_registry, upload, upload_index

from minidock import trace
from minidock.errors import InvalidInput, MinidockError, NotFound
from minidock.images import download, mirrors, wire
from minidock.images.image import OCI_LAYER

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with running_registry(tmp_path) as host:
        yield host


@pytest.fixture
def proxy(server: str) -> Iterator[Proxy]:
    with Proxy(server) as running:
        yield running


@pytest.fixture
def puller(root: Path) -> Puller:
    return Puller(root)


@pytest.fixture(autouse=True)
def no_memory_of_dead_mirrors() -> None:
    mirrors.Dead._here.clear()


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that do not compress."""
    return random.Random(seed).randbytes(size)


BIG = {"data/noise": noise(3 << 20), "data/hello": b"hello\n"}


def tree(puller: Puller, image: Any, name: str) -> bytes:
    """A file of the image, looked up in its topmost layer that has it."""
    for layer in reversed(image.layers):
        path = puller.store.layer_path(layer.diff_id) / name
        if path.exists():
            return path.read_bytes()
    raise AssertionError(f"{name} is in no layer")


def leftovers(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "tmp").iterdir() if path.name != "dead-mirrors.json")


# ── what arrives ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
def test_pull_brings_an_image_whole(server: str, puller: Puller, root: Path, docker: bool) -> None:
    made = sample({"a": b"one"}, {"b/c": b"two"}, {"a": b"three"}, docker=docker, Cmd=["sh"])
    known = upload(server, "team/app", made, "1.0")
    image = puller.pull(f"{server}/team/app:1.0")
    assert (image.id, image.digest) == (made.id, known)
    assert image.names == [f"{server}/team/app:1.0"]
    assert image.repo_digests == [f"{server}/team/app@{known}"]
    assert image.settings == {"Cmd": ["sh"]}
    assert tree(puller, image, "a") == b"three" and tree(puller, image, "b/c") == b"two"
    check_layout(root / "images")
    assert leftovers(root) == []


def test_the_events_are_dockers(server: str, puller: Puller) -> None:
    made = sample({"a": b"one"}, {"b": b"two"})
    known = upload(server, "app", made)
    puller.pull(f"{server}/app")
    assert (puller.events[0].id, puller.events[0].status) == ("latest", "Pulling from app")
    first = [event.status for event in puller.events if event.id == next(iter(made.blobs))[7:19]]
    kept = [status for status in first if status != "Waiting"]
    assert list(dict.fromkeys(kept)) == [
        "Pulling fs layer",
        "Downloading",
        "Download complete",
        "Extracting",
        "Pull complete",
    ]
    assert puller.statuses[-2:] == [
        f"Digest: {known}",
        f"Status: Downloaded newer image for {server}/app:latest",
    ]
    puller.pull(f"{server}/app")
    assert puller.statuses.count("Already exists") == 2
    assert puller.statuses[-1] == f"Status: Image is up to date for {server}/app:latest"


def test_shared_layers_are_fetched_once(proxy: Proxy, puller: Puller) -> None:
    base, one, two = {"base": b"base"}, {"one": b"1"}, {"two": b"2"}
    upload(proxy.host, "one", sample(base, one))
    upload(proxy.host, "two", sample(base, two))
    puller.pull(f"{proxy.host}/one")
    proxy.requests.clear()
    puller.pull(f"{proxy.host}/two")
    assert puller.statuses.count("Already exists") == 1
    assert len(proxy.asked("GET", "/blobs/")) == 2  # the config and one layer


def test_the_same_layer_twice_in_an_image(server: str, puller: Puller) -> None:
    upload(server, "app", sample({"a": b"x"}, {"b": b"y"}, {"a": b"x"}))
    image = puller.pull(f"{server}/app")
    assert len(image.layers) == 3 and image.layers[0] == image.layers[2]


def test_pull_by_digest(server: str, puller: Puller) -> None:
    made = sample()
    known = upload(server, "app", made)
    upload(server, "app", sample({"other": b"!"}))
    image = puller.pull(f"{server}/app:latest@{known}")
    assert image.id == made.id and image.names == []
    assert puller.store.resolve(f"{server}/app@{known}").id == made.id


def test_a_tag_that_moved_is_pulled_anew(server: str, puller: Puller) -> None:
    upload(server, "app", sample({"v": b"1"}))
    old = puller.pull(f"{server}/app")
    upload(server, "app", sample({"v": b"2"}))
    new = puller.pull(f"{server}/app")
    assert new.id != old.id and new.names == [f"{server}/app:latest"]
    assert puller.store.resolve(old.id).names == []


def with_layer(blob: bytes, plain: bytes, media_type: str) -> Sample:
    """An image whose only layer is packed as *blob*."""
    made = sample()
    config = json.loads(made.config) | {"rootfs": {"type": "layers", "diff_ids": [digest(plain)]}}
    config_data = json.dumps(config).encode()
    document = json.loads(made.manifest)
    document["config"] |= {"digest": digest(config_data), "size": len(config_data)}
    document["layers"] = [{"mediaType": media_type, "digest": digest(blob), "size": len(blob)}]
    return Sample(
        json.dumps(document).encode(), made.media_type, config_data, {digest(blob): blob}, [digest(plain)]
    )


@pytest.mark.parametrize("kind", ["", "+gzip", "+zstd"])
def test_plain_gzip_and_zstd_layers(server: str, puller: Puller, kind: str) -> None:
    plain = tar_of({"file": b"content" * 1000})
    packed = {"": plain, "+gzip": gzip.compress(plain), "+zstd": zstandard.compress(plain)}[kind]
    upload(server, "app", with_layer(packed, plain, OCI_LAYER + kind))
    assert tree(puller, puller.pull(f"{server}/app"), "file") == b"content" * 1000


def test_unlisted_directories_look_as_below(server: str, puller: Puller) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("secret")
        entry.type, entry.mode, entry.uid = tarfile.DIRTYPE, 0o700, 7
        archive.addfile(entry)
    below = out.getvalue()
    above = tar_of({"secret/file": b"x"})
    made = sample()
    packed = [gzip.compress(each, mtime=0) for each in (below, above)]
    config = json.loads(made.config)
    config["rootfs"]["diff_ids"] = [digest(below), digest(above)]
    data = json.dumps(config).encode()
    document = json.loads(made.manifest)
    document["config"] |= {"digest": digest(data), "size": len(data)}
    document["layers"] = [
        {"mediaType": OCI_LAYER + "+gzip", "digest": digest(each), "size": len(each)} for each in packed
    ]
    upload(
        server,
        "app",
        Sample(
            json.dumps(document).encode(), made.media_type, data, {digest(each): each for each in packed}, []
        ),
    )
    image = puller.pull(f"{server}/app")
    status = (puller.store.layer_path(image.layers[1].diff_id) / "secret").stat()
    assert (status.st_mode & 0o777, status.st_uid) == (0o700, 7)


# ── platforms ────────────────────────────────────────────────────────────────────────────────────────


def for_architecture(name: str, made: Sample) -> Sample:
    data = json.dumps(json.loads(made.config) | {"architecture": name}).encode()
    document = json.loads(made.manifest)
    document["config"] |= {"digest": digest(data), "size": len(data)}
    return Sample(json.dumps(document).encode(), made.media_type, data, made.blobs, made.diff_ids)


@pytest.mark.parametrize("docker", [False, True], ids=["index", "manifest list"])
def test_an_index_leads_to_this_machines_image(server: str, puller: Puller, docker: bool) -> None:
    mine, other = sample({"arch": b"mine"}), for_architecture("s390x", sample({"arch": b"other"}))
    images = {"linux/s390x": other, "linux/amd64": mine, "linux/arm64/v8": mine, "unknown/unknown": other}
    known = upload_index(server, "app", images, docker=docker)
    image = puller.pull(f"{server}/app")
    assert image.id == mine.id and image.digest == mine.digest
    assert image.repo_digests == [f"{server}/app@{known}"]  # the index's, as in Docker
    assert f"Digest: {known}" in puller.statuses
    assert puller.pull(f"{server}/app@{known}").id == mine.id
    assert puller.pull(f"{server}/app", platform="linux/s390x").id == other.id


def test_a_missing_platform_names_those_there_are(server: str, puller: Puller) -> None:
    upload_index(
        server, "app", {"linux/arm64": sample(), "linux/arm/v7": sample(), "unknown/unknown": sample()}
    )
    with pytest.raises(
        NotFound, match="no matching manifest for linux/ppc64le in the manifest list"
    ) as caught:
        puller.pull(f"{server}/app", platform="linux/ppc64le")
    assert caught.value.hint == "Available: linux/arm/v7, linux/arm64."
    with pytest.raises(InvalidInput, match="unknown operating system or architecture"):
        puller.pull(f"{server}/app", platform="linux/vax")


def test_a_plain_image_for_another_platform(server: str, puller: Puller) -> None:
    upload(server, "app", for_architecture("s390x", sample()))
    puller.pull(f"{server}/app")
    assert "made for linux/s390x" in puller.warnings[0]
    with pytest.raises(NotFound, match="does not match the specified platform"):
        puller.pull(f"{server}/app", platform="linux/amd64")


# ── faults on the way ────────────────────────────────────────────────────────────────────────────────


def blob_fault(proxy: Proxy, made: Sample, **what: Any) -> None:
    proxy.fault(f"/blobs/{next(iter(made.blobs))}", **what)


def test_a_cut_download_goes_on_where_it_stopped(proxy: Proxy, puller: Puller) -> None:
    made = sample(BIG)
    upload(proxy.host, "app", made)
    blob_fault(proxy, made, cut_after=1 << 20, times=2)
    image = puller.pull(f"{proxy.host}/app")
    assert tree(puller, image, "data/noise") == BIG["data/noise"]
    ranges = [each.headers.get("Range") for each in proxy.asked("GET", f"/blobs/{next(iter(made.blobs))}")]
    assert ranges == [None, f"bytes={1 << 20}-", f"bytes={2 << 20}-"]


def test_a_server_that_knows_no_range_starts_anew(proxy: Proxy, puller: Puller) -> None:
    made = sample(BIG)
    upload(proxy.host, "app", made)
    blob_fault(proxy, made, cut_after=1 << 20, times=1)
    blob_fault(proxy, made, ignore_range=True)
    assert tree(puller, puller.pull(f"{proxy.host}/app"), "data/noise") == BIG["data/noise"]


def test_a_server_that_fails_for_a_while(proxy: Proxy, puller: Puller) -> None:
    made = sample(BIG)
    upload(proxy.host, "app", made)
    blob_fault(proxy, made, status=503, times=2)
    assert puller.pull(f"{proxy.host}/app").id == made.id


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"flip": True}, "digest"),
        ({"extra": b"more"}, "offers .* bytes .* the manifest says"),
        ({"replace": b"short"}, "offers 5 bytes"),
        ({"replace": noise(200, 2)}, "offers 200 bytes"),
        ({"status": 404}, "not a registry|lacks"),
        ({"status": 403}, "pull access denied"),
    ],
    ids=["one bit", "too much", "too little", "other bytes", "404", "403"],
)
def test_bytes_that_are_not_the_layers_are_never_used(
    proxy: Proxy, puller: Puller, root: Path, fault: dict[str, Any], message: str
) -> None:
    made = sample({"file": b"content"})
    upload(proxy.host, "app", made)
    blob_fault(proxy, made, **fault)
    with pytest.raises(MinidockError, match=message) as caught:
        puller.pull(f"{proxy.host}/app")
    assert "\n" not in str(caught.value)
    assert puller.store.images() == []
    assert list((root / "layers").iterdir()) == []
    check_layout(root / "images")
    proxy.faults.clear()
    assert puller.pull(f"{proxy.host}/app").id == made.id


def test_another_images_layer_is_not_taken(proxy: Proxy, puller: Puller) -> None:
    made, other = sample({"file": noise(500, 1)}), sample({"file": noise(500, 2)})
    (blob,), (wrong,) = made.blobs.values(), other.blobs.values()
    upload(proxy.host, "app", made)
    blob_fault(proxy, made, replace=wrong.ljust(len(blob), b"\0")[: len(blob)])
    with pytest.raises(MinidockError, match="digest"):
        puller.pull(f"{proxy.host}/app")


def test_a_layer_that_contradicts_its_config_is_refused(server: str, puller: Puller) -> None:
    made = sample({"file": b"content"})
    liar = with_layer(next(iter(made.blobs.values())), b"something else", OCI_LAYER + "+gzip")
    upload(server, "app", liar)
    with pytest.raises(MinidockError, match="diff id"):
        puller.pull(f"{server}/app")
    assert puller.store.images() == []


def test_a_bomb_is_bounded(server: str, root: Path) -> None:
    upload(server, "app", sample({"zeros": bytes(5 << 20)}))
    with pytest.raises(MinidockError, match="unpacks to more than 1048576 bytes"):
        Puller(root, max_layer_size=1 << 20).pull(f"{server}/app")


def test_a_damaged_partial_file_is_fetched_again(server: str, puller: Puller, root: Path) -> None:
    made = sample(BIG)
    upload(server, "app", made)
    (name, blob) = next(iter(made.blobs.items()))
    puller.store.create()
    partial = download.partial_file(root / "tmp", name)
    partial.write_bytes(bytes(2 << 20))  # what a power cut may leave: the length is right, the content is not
    assert puller.pull(f"{server}/app").id == made.id
    partial.write_bytes(blob + b"more")
    assert puller.pull(f"{server}/app").id == made.id


def test_a_blob_that_lost_its_tree_and_a_tree_that_lost_its_blob(proxy: Proxy, puller: Puller) -> None:
    made = sample(BIG)
    upload(proxy.host, "app", made)
    image = puller.pull(f"{proxy.host}/app")
    (layer,) = image.layers
    puller.store.layer_path(layer.diff_id).rename(puller.store.root / "elsewhere")
    proxy.requests.clear()
    puller.pull(f"{proxy.host}/app")
    assert tree(puller, image, "data/hello") == b"hello\n"
    assert not proxy.asked("GET", "/blobs/")
    puller.store.blob_path(layer.digest).unlink()
    puller.pull(f"{proxy.host}/app")
    assert puller.store.blob_path(layer.digest).read_bytes() == made.blobs[layer.digest]


def test_a_damaged_blob_is_replaced(server: str, puller: Puller) -> None:
    made = sample(BIG)
    upload(server, "app", made)
    (layer,) = puller.pull(f"{server}/app").layers
    puller.store.layer_path(layer.diff_id).rename(puller.store.root / "elsewhere")
    puller.store.blob_path(layer.digest).write_bytes(bytes(layer.size))
    puller.pull(f"{server}/app")
    assert puller.store.blob_path(layer.digest).read_bytes() == made.blobs[layer.digest]


# ── kills and crowds ─────────────────────────────────────────────────────────────────────────────────

_PULL = """
import sys
sys.path[:] = {path!r}
from pathlib import Path
from minidock.config import Config
from minidock.images import store, transfer
root = Path(sys.argv[1])
try:
    transfer.pull(store.Store(root), sys.argv[2], Config(root=root))
except KeyboardInterrupt:
    sys.exit(130)
"""


def pull_process(root: Path, name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _PULL.format(path=[str(REPOSITORY), *sys.path]), str(root), name]
    )


def alive(group: str) -> list[str]:
    """Worker processes whose command line names *group*: none may outlive their caller."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if group in (directory / "environ").read_text(errors="replace") and "workers.main" in (
                directory / "cmdline"
            ).read_text(errors="replace"):
                found.append(directory.name)
        except OSError:
            continue
    return found


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_a_killed_pull_leaves_nothing_half_done_and_the_next_one_goes_on(
    proxy: Proxy,
    puller: Puller,
    root: Path,
    how: signal.Signals,
    wait_for: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = sample(BIG)
    upload(proxy.host, "app", made)
    blob_fault(proxy, made, hang=30, times=1)
    mark = f"mark-{os.getpid()}-{random.random()}"
    monkeypatch.setenv("MINIDOCK_TEST_MARK", mark)
    process = pull_process(root, f"{proxy.host}/app")
    partial = download.partial_file(root / "tmp", next(iter(made.blobs)))
    wait_for(lambda: partial.exists() and partial.stat().st_size >= 1 << 20, what="the first MiB")
    assert puller.store.images() == []
    process.send_signal(how)
    assert process.wait(10) == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    wait_for(lambda: not alive(mark), what="the worker to end")
    assert puller.store.images() == []
    assert list((root / "layers").iterdir()) == []
    check_layout(root / "images")
    there = partial.stat().st_size
    proxy.requests.clear()
    image = puller.pull(f"{proxy.host}/app")
    assert tree(puller, image, "data/noise") == BIG["data/noise"]
    (asked,) = proxy.asked("GET", f"/blobs/{next(iter(made.blobs))}")
    assert asked.headers["Range"] == f"bytes={there}-"


def test_two_processes_pull_the_same_image_at_once(proxy: Proxy, puller: Puller, root: Path) -> None:
    made = sample(BIG, {"other": noise(1 << 20, 3)})
    upload(proxy.host, "app", made)
    both = [pull_process(root, f"{proxy.host}/app") for _ in range(3)]
    assert [process.wait(60) for process in both] == [0, 0, 0]
    assert puller.store.resolve(f"{proxy.host}/app").id == made.id
    check_layout(root / "images")
    assert leftovers(root) == []
    for blob in made.blobs:  # whoever came second waited for the first one's bytes
        assert len(proxy.asked("GET", f"/blobs/{blob}")) == 1


def test_threads_may_pull(server: str, root: Path) -> None:
    """A notebook or a daemon has threads: a pull must not fork."""
    images = [sample({"file": noise(100_000, seed)}) for seed in range(4)]
    for number, made in enumerate(images):
        upload(server, f"app{number}", made)
    errors: list[Exception] = []

    def work(number: int) -> None:
        try:
            Puller(root).pull(f"{server}/app{number}")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(Puller(root).store.images()) == 4


# ── mirrors ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_hubs_images_come_from_the_mirror(proxy: Proxy, root: Path) -> None:
    made = sample()
    upload(proxy.host, "library/busybox", made)
    puller = Puller(root, registry_mirrors=(proxy.url,))
    image = puller.pull("busybox")
    assert image.names == ["docker.io/library/busybox:latest"]
    assert puller.statuses[-1] == "Status: Downloaded newer image for busybox:latest"


def test_a_dead_mirror_is_skipped_named_and_remembered(server: str, root: Path) -> None:
    upload(server, "library/busybox", sample())
    dead = "http://127.0.0.1:9"
    puller = Puller(root, registry_mirrors=(dead, f"http://{server}"))
    puller.pull("busybox")
    assert puller.warnings == [f"mirror {dead} is skipped: 127.0.0.1:9: connection refused"]
    puller.pull("busybox")
    assert puller.warnings == [f"mirror {dead} is skipped: it did not answer a moment ago"]
    mirrors.Dead._here.clear()  # another process
    puller.pull("busybox")
    assert puller.warnings == [f"mirror {dead} is skipped: it did not answer a moment ago"]


def test_a_mirror_that_came_back_is_found_when_nobody_else_answers(tmp_path: Path, root: Path) -> None:
    puller = Puller(root, registry_mirrors=("http://127.0.0.1:5007",))
    with pytest.raises(wire.Unreachable):
        puller.pull("busybox")
    with running_registry(tmp_path, 5007) as host:
        upload(host, "library/busybox", sample())
        puller.pull("busybox")


def test_a_mirror_without_the_image_leads_on(server: str, tmp_path: Path, root: Path) -> None:
    upload(server, "library/busybox", sample())
    with running_registry(tmp_path, 5006) as empty:
        puller = Puller(root, registry_mirrors=(f"http://{empty}", f"http://{server}"))
        puller.pull("busybox")
        assert "not found" in puller.warnings[0]
        with pytest.raises(
            NotFound, match=r"^nosuch:latest: not found on the mirror .*registry-1\.docker\.io"
        ):
            puller.pull("nosuch")


def test_a_mirror_that_sends_wrong_bytes_is_replaced_by_the_next(
    proxy: Proxy, server: str, root: Path
) -> None:
    made = sample(BIG)
    upload(server, "library/busybox", made)
    blob_fault(proxy, made, flip=True)
    puller = Puller(root, registry_mirrors=(proxy.url, f"http://{server}"))
    assert puller.pull("busybox").id == made.id


def test_a_mirror_that_dies_in_the_middle_is_replaced_by_the_next(
    proxy: Proxy, server: str, root: Path
) -> None:
    made = sample(BIG)
    upload(server, "library/busybox", made)
    blob_fault(proxy, made, cut_after=1 << 20, times=1)
    blob_fault(proxy, made, status=404, body=b"gone")
    puller = Puller(root, registry_mirrors=(proxy.url, f"http://{server}"))
    assert puller.pull("busybox").id == made.id


def test_a_plain_http_mirror_must_be_listed(server: str, root: Path) -> None:
    upload(server, "library/busybox", sample())
    puller = Puller(root, registry_mirrors=("http://mirror.example", f"http://{server}"))
    puller.pull("busybox")
    assert "plain HTTP is spoken only" in puller.warnings[0]


def test_the_rate_limit_is_shown(proxy: Proxy, puller: Puller) -> None:
    upload(proxy.host, "app", sample())
    proxy.headers = {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "76;w=21600"}
    puller.pull(f"{proxy.host}/app")
    assert puller.statuses[-1] == "Rate limit: 76 of 100 pulls left in 6 h"


def test_tokens_reach_the_workers(proxy: Proxy, puller: Puller) -> None:
    upload(proxy.host, "app", sample({"a": b"1"}, {"b": b"2"}))
    proxy.bearer = True
    proxy.requests.clear()
    puller.pull(f"{proxy.host}/app")
    assert len(proxy.asked("GET", "/token")) == 1


def test_the_steps_of_the_workers_are_recorded(server: str, puller: Puller) -> None:
    upload(server, "app", sample({"a": b"1"}))
    with trace.recording(trace.Recorder()) as recorder:
        puller.pull(f"{server}/app")
    operations = [step.operation for step in recorder.steps]
    assert operations[:2] == ["GET", "GET"] and operations.count("GET") == 3
    assert "unpack layer" in operations and operations[-1] == "syncfs"


# ── push ─────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_pushed_can_be_pulled_elsewhere(
    server: str, puller: Puller, make_root: Callable[[], Path]
) -> None:
    made = sample({"a": b"1"}, BIG)
    upload(server, "app", made)
    puller.pull(f"{server}/app")
    puller.store.tag(f"{server}/app", f"{server}/team/copy:2.0")
    assert puller.push(f"{server}/team/copy:2.0") == made.digest
    assert puller.statuses[0] == f"The push refers to repository [{server}/team/copy]"
    assert puller.statuses.count("Mounted from app") == 2
    assert puller.statuses[-1] == f"2.0: digest: {made.digest} size: {len(made.manifest)}"
    image = puller.store.resolve(f"{server}/team/copy:2.0")
    assert f"{server}/team/copy@{made.digest}" in image.repo_digests
    other = Puller(make_root())
    assert other.pull(f"{server}/team/copy:2.0").id == made.id
    puller.push(f"{server}/team/copy:2.0")
    assert puller.statuses.count("Layer already exists") == 2


def test_push_to_another_registry_uploads(server: str, tmp_path: Path, puller: Puller) -> None:
    made = sample(BIG)
    upload(server, "app", made)
    puller.pull(f"{server}/app")
    with running_registry(tmp_path, 5006) as target:
        puller.store.tag(f"{server}/app", f"{target}/app")
        puller.push(f"{target}/app")
        assert "Pushed" in puller.statuses
        assert connect(target).manifest("app", "latest")[0] == made.manifest


def test_push_of_what_is_not_here(server: str, puller: Puller) -> None:
    with pytest.raises(NotFound, match=f"An image does not exist locally with the tag: {server}/app"):
        puller.push(f"{server}/app")
    with pytest.raises(InvalidInput, match="cannot push a digest reference"):
        puller.push(f"{server}/app@{digest(b'')}")


def test_push_without_permission(proxy: Proxy, puller: Puller) -> None:
    upload(proxy.host, "app", sample())
    puller.pull(f"{proxy.host}/app")
    proxy.bearer, proxy.users = True, {"ann": "secret"}
    with pytest.raises(MinidockError, match=f"denied: requested access to {proxy.host}/app is denied"):
        puller.push(f"{proxy.host}/app")


@pytest.mark.peer
def test_skopeo_reads_what_we_push_and_we_read_what_it_pushes(
    server: str, puller: Puller, tmp_path: Path
) -> None:
    made = sample({"a": b"1"}, BIG)
    upload(server, "app", made)
    puller.pull(f"{server}/app")
    puller.store.tag(f"{server}/app", f"{server}/ours")
    puller.push(f"{server}/ours")
    copy = ["skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false"]
    for kind in ("v2s2", "oci"):
        target = f"docker://{server}/theirs:{kind}"
        subprocess.run([*copy, "--format", kind, f"docker://{server}/ours", target], check=True)
        image = puller.pull(f"{server}/theirs:{kind}")
        assert image.diff_ids == made.diff_ids


# ── tidiness ─────────────────────────────────────────────────────────────────────────────────────────


def test_old_partial_files_are_given_up(root: Path) -> None:
    temporary = root / "tmp"
    temporary.mkdir(exist_ok=True)
    for name, age in (("old", 10), ("new", 0)):
        (temporary / f"{name}.partial").write_bytes(b"12345")
        moment = os.stat(temporary / f"{name}.partial").st_mtime - age
        os.utime(temporary / f"{name}.partial", (moment, moment))
    assert download.sweep(temporary, older_than=5) == 5
    assert [path.name for path in temporary.iterdir()] == ["new.partial"]


def test_a_partial_file_that_another_pull_reads_keeps_its_name(root: Path) -> None:
    """Else a third pull makes a new, empty file of that name, and the second takes it for its own."""
    partial, blob = root / "layer.partial", root / "blob"
    partial.write_bytes(b"12345")
    os.link(partial, blob)
    with partial.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        download.forget(partial, blob)
        assert partial.exists()
    download.forget(partial, blob)
    assert not partial.exists()
    partial.write_bytes(b"of the next pull")
    download.forget(partial, blob)
    assert partial.exists()
