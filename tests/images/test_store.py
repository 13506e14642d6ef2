"""The store: a valid OCI layout at every moment, durable once acknowledged, safe between processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from image_samples import BUSYBOX, add, bring, check_layout, digest, sample

from minidock.errors import Conflict, InvalidInput, MinidockError, NotFound
from minidock.images import removal
from minidock.images.image import OCI_INDEX
from minidock.images.layer import chain_ids
from minidock.images.store import Store, Use

needs_skopeo = pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
fork = multiprocessing.get_context("fork")


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root)


def skopeo(*arguments: str) -> str:
    return subprocess.run(["skopeo", *arguments], check=True, capture_output=True, text=True).stdout


# --- finding --------------------------------------------------------------------------------------


def test_an_image_is_found_by_every_kind_of_name(store: Store) -> None:
    made = sample(Cmd=["sh"])
    by_digest = f"docker.io/library/busybox@{made.digest}"
    image = add(store, made, BUSYBOX, by_digest)
    hexadecimal = made.id.removeprefix("sha256:")
    for text in (
        "busybox",
        "busybox:latest",
        "docker.io/busybox",
        "library/busybox",
        f"busybox@{made.digest}",
        f"busybox:latest@{made.digest}",
        made.id,
        hexadecimal,
        hexadecimal[:12],
        hexadecimal[:4],
        f"sha256:{hexadecimal[:8]}",
        made.digest,
    ):
        assert store.resolve(text).id == made.id, text
    assert image.names == [BUSYBOX]
    assert image.repo_digests == [by_digest]
    assert image.settings == {"Cmd": ["sh"]}
    assert image.size == len(b"hello\n")


@pytest.mark.parametrize(
    "text", ["nobody", "busybox:other", "f" * 64, "abcdef", "sha256:00", "Not A Name", ""]
)
def test_what_is_not_there_is_not_found(store: Store, text: str) -> None:
    add(store, sample(), BUSYBOX)
    with pytest.raises(NotFound, match="No such image"):
        store.resolve(text)
    assert store.find(text) is None


def test_an_empty_root_holds_no_images_and_is_not_touched(tmp_path: Path) -> None:
    store = Store(tmp_path / "nothing")
    assert store.images() == []
    assert store.find("busybox") is None
    assert not (tmp_path / "nothing").exists()


def test_an_ambiguous_id_is_refused(store: Store) -> None:
    seen: dict[str, str] = {}
    for number in range(17):  # by then two share their first digit
        made = sample(Labels={"n": str(number)})
        add(store, made, f"docker.io/library/i{number}:latest")
        first = made.id[7]
        if first in seen:
            with pytest.raises(InvalidInput, match=f"'{first}' is ambiguous"):
                store.resolve(first)
            return
        seen[first] = made.id


def test_a_name_wins_over_an_id_that_begins_alike(store: Store) -> None:
    other = sample(Labels={"other": "1"})
    named = add(store, sample(), f"docker.io/library/{other.id[7:15]}:latest")
    add(store, other, "docker.io/library/other:latest")
    assert store.resolve(other.id[7:15]).id == named.id


def test_images_are_listed_once_newest_first(store: Store) -> None:
    old = add(store, sample(Labels={"n": "old"}, created="2019-01-01T00:00:00Z"), "docker.io/library/old:1")
    new = add(store, sample(Labels={"n": "new"}), BUSYBOX, "docker.io/library/b:2")
    listed = store.images()
    assert [image.id for image in listed] == [new.id, old.id]
    assert sorted(listed[0].names) == ["docker.io/library/b:2", BUSYBOX]


def test_docker_manifests_and_indexes_are_understood(store: Store) -> None:
    made = sample(docker=True)
    entry = {"mediaType": made.media_type, "digest": made.digest, "size": len(made.manifest)}
    elsewhere = {**entry, "digest": "sha256:" + "0" * 64, "platform": {"os": "plan9", "architecture": "mips"}}
    here = {**entry, "platform": {"os": "linux", "architecture": "amd64"}}
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [elsewhere, here]}).encode()
    with store.transaction() as new:
        bring(new, made)
        new.put_image(index, OCI_INDEX, ["docker.io/library/multi:1"])
    image = store.resolve("multi:1")
    assert (image.id, image.digest) == (made.id, made.digest)
    assert image.names == ["docker.io/library/multi:1"]
    assert store.resolve(digest(index)).id == made.id
    assert store.read_blob(digest(index)) == index
    assert removal.collect(store) == 0
    assert [each.id for each in store.images()] == [made.id]


# --- names ----------------------------------------------------------------------------------------


def test_tag_adds_a_name_and_takes_it_from_another_image(store: Store) -> None:
    first = add(store, sample(Labels={"n": "1"}), BUSYBOX)
    second = add(store, sample(Labels={"n": "2"}), "docker.io/library/two:latest")
    assert sorted(store.tag("busybox", "mine:1").names) == [BUSYBOX, "docker.io/library/mine:1"]
    store.tag(second.id[:20], "busybox")
    store.tag("two", "mine:1")
    assert store.resolve("busybox").id == second.id
    assert store.resolve(first.id).dangling
    check_layout(store.root / "images")


def test_tag_refuses_what_makes_no_sense(store: Store) -> None:
    add(store, sample(), BUSYBOX)
    with pytest.raises(InvalidInput, match="digest"):
        store.tag("busybox", "x@sha256:" + "a" * 64)
    with pytest.raises(InvalidInput, match="lowercase"):
        store.tag("busybox", "Upper")
    with pytest.raises(NotFound):
        store.tag("missing", "x")


# --- the standard's layout ------------------------------------------------------------------------


@pytest.mark.peer
@needs_skopeo
def test_skopeo_reads_what_we_wrote_and_we_what_it_wrote(store: Store, tmp_path: Path) -> None:
    made = sample({"a": b"1"}, {"b": b"2"}, Cmd=["sh"])
    add(store, made, BUSYBOX)
    images = store.root / "images"
    seen = json.loads(skopeo("inspect", f"oci:{images}:{BUSYBOX}"))
    assert seen["Digest"] == made.digest
    assert seen["Layers"] == list(made.blobs)
    skopeo("copy", f"oci:{images}:{BUSYBOX}", f"dir:{tmp_path}/copy")
    skopeo("copy", f"dir:{tmp_path}/copy", f"oci:{images}:quay.io/team/app:7")
    skopeo("copy", f"dir:{tmp_path}/copy", f"oci:{images}:short")
    check_layout(images)
    assert store.resolve("quay.io/team/app:7").id == made.id
    assert store.resolve("short").id == made.id
    assert len(store.images()) == 1
    fresh = Store(tmp_path / "fresh")
    fresh.root.mkdir()
    skopeo("copy", f"dir:{tmp_path}/copy", f"oci:{fresh.root}/images:docker.io/library/x:1")
    image = fresh.resolve("x:1")  # a layout that we did not make
    trees = fresh.ensure_layers(image)
    assert [(trees[0] / "a").read_bytes(), (trees[1] / "b").read_bytes()] == [b"1", b"2"]


def test_a_removed_layer_tree_is_extracted_again(store: Store) -> None:
    image = add(store, sample(), BUSYBOX)
    (tree,) = store.ensure_layers(image)
    shutil.rmtree(tree)
    assert store.ensure_layers(image) == [tree]
    assert (tree / "hello").read_bytes() == b"hello\n"
    with store.hold(image) as trees:
        assert trees == [tree]


# --- transactions ---------------------------------------------------------------------------------


def test_a_transaction_syncs_once(store: Store) -> None:
    with store.transaction() as new:
        for number in range(5):
            bring(new, sample({f"f{number}": b"x"}), f"docker.io/library/i{number}:1")
    assert store.syncs == 1
    store.tag("i1:1", "i1:2")
    assert store.syncs == 1


def test_a_failed_transaction_shows_nothing_but_keeps_what_it_fetched(store: Store) -> None:
    made = sample()
    with pytest.raises(RuntimeError), store.transaction() as new:
        bring(new, made, BUSYBOX)
        raise RuntimeError("the line went dead")
    assert store.images() == []
    assert store.has_blob(made.id)  # the next pull need not fetch it again
    assert os.listdir(store.temporary) == []
    assert removal.collect(store) > 0
    assert not store.has_blob(made.id)


def test_wrong_content_never_becomes_a_blob(store: Store) -> None:
    wanted = digest(b"right")
    for content, size in ((b"wrong", None), (b"right", 6)):
        with pytest.raises(MinidockError), store.transaction() as new, new.blob(wanted, size) as file:
            file.write(content)
        assert not store.has_blob(wanted)


def test_a_manifest_without_its_parts_is_refused(store: Store) -> None:
    made = sample()
    with pytest.raises(MinidockError, match="is missing"), store.transaction() as new:
        new.put(made.config)
        new.put_image(made.manifest, made.media_type, [BUSYBOX])
    assert store.images() == []


def test_a_name_that_is_no_reference_is_refused(store: Store) -> None:
    with pytest.raises(InvalidInput), store.transaction() as new:
        bring(new, sample(), "../../etc/passwd:x")


def test_a_full_disk_is_one_clear_error_and_no_half_image(tmp_path: Path) -> None:
    """On a tmpfs of 1 MiB, in a mount namespace that goes with the process."""
    program = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
from pathlib import Path
from image_samples import BUSYBOX, bring, check_layout, sample
from minidock.images.store import Store
import os, random
store = Store(Path({str(tmp_path)!r}))
for made in (sample({{"small": b"x"}}), sample({{"big": random.Random(1).randbytes(3 << 20)}})):
    try:
        with store.transaction() as new:
            bring(new, made, BUSYBOX)
        print("ok")
    except Exception as error:
        print(type(error).__name__, error)
check_layout(store.root / "images")
print(len(store.images()), os.listdir(store.temporary))
"""
    shell = f"mount -t tmpfs -o size=1m none {tmp_path} && exec {sys.executable} -"
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", shell]
    seen = subprocess.run(command, input=program, check=True, capture_output=True, text=True).stdout
    assert seen.splitlines() == [
        "ok",
        f"MinidockError {tmp_path}: no space left on the disk",
        "1 []",
    ]


def test_killed_in_the_middle_leaves_nothing_visible(store: Store) -> None:
    made = sample()

    def half() -> None:
        with store.transaction() as new:
            bring(new, made, BUSYBOX)
            os.kill(os.getpid(), signal.SIGKILL)

    process = fork.Process(target=half)
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    assert store.images() == [] and not store.has_blob(made.id)
    assert len(os.listdir(store.temporary)) == 1
    removal.collect(store)
    assert os.listdir(store.temporary) == []
    check_layout(store.root / "images")


def test_what_an_operation_counts_on_stays_while_it_runs(store: Store) -> None:
    made = sample()
    add(store, made, BUSYBOX)
    with store.transaction() as new:
        assert new.keep(made.id) and all(new.keep(each) for each in made.blobs)
        assert new.keep_layer(made.diff_ids[0])
        removal.remove(Store(store.root), "busybox")
        assert store.images() == []
        new.put_image(made.manifest, made.media_type, ["docker.io/library/again:1"])
    assert (store.ensure_layers(store.resolve("again:1"))[0] / "hello").exists()
    check_layout(store.root / "images")


def test_pulls_and_removals_of_many_processes_do_not_disturb_each_other(store: Store) -> None:
    shared = {"base": b"b" * 1000}
    samples = [sample(shared, {f"f{number}": b"x"}) for number in range(3)]

    def pull_and_remove(seed: int) -> None:
        mine = Store(store.root)
        for turn in range(8):
            number = (seed + turn) % len(samples)
            image = add_quietly(mine, samples[number], f"docker.io/library/i{number}:1")
            check_layout_now(mine)
            if image and turn % 2:
                with suppress(NotFound):  # another process was quicker
                    removal.remove(mine, f"i{number}:1", force=True)

    def add_quietly(mine: Store, made: object, name: str) -> object:
        with mine.transaction() as new:
            bring(new, made, name)  # type: ignore[arg-type]
        return mine.find(name)

    def check_layout_now(mine: Store) -> None:
        with mine.lock(shared=True):
            check_layout(mine.root / "images")

    processes = [fork.Process(target=pull_and_remove, args=(seed,)) for seed in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 4
    check_layout(store.root / "images")
    for image in store.images():
        store.ensure_layers(image)
    assert os.listdir(store.temporary) == []


def test_two_long_builds_make_the_same_layer(store: Store) -> None:
    """A long build puts what it has into place now and then; the second to do so finds the layer there."""
    diff_id = f"sha256:{'a' * 64}"
    with store.transaction() as first, store.transaction() as second:
        for each in (first, second):
            with each.layer(diff_id) as tree:
                (tree.path / "file").write_text("same")
            each.commit()
        with second.layer(f"sha256:{'b' * 64}"):
            pass
        second.commit()
        assert (second.tree_path(diff_id) / "file").read_text() == "same"


def test_two_processes_extract_the_same_layer(store: Store) -> None:
    image = add(store, sample(), BUSYBOX)
    shutil.rmtree(store.layer_path(image.diff_ids[0]))
    ready = fork.Barrier(3)

    def extract() -> None:
        ready.wait(30)
        store.ensure_layers(image)

    processes = [fork.Process(target=extract) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 3
    assert (store.ensure_layers(image)[0] / "hello").exists()


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["manifest", "config"])
@pytest.mark.parametrize("damage", [b"{}", b"", None])
def test_a_damaged_document_is_named(store: Store, which: str, damage: bytes | None) -> None:
    made = sample()
    add(store, made, BUSYBOX)
    add(store, sample(Labels={"n": "2"}), "docker.io/library/well:1")
    path = store.blob_path(made.digest if which == "manifest" else made.id)
    path.unlink() if damage is None else path.write_bytes(damage)
    with pytest.raises(MinidockError, match=str(path)) as caught:
        store.resolve("busybox")
    assert caught.value.hint
    noticed: list[MinidockError] = []
    assert [image.names for image in store.images(noticed.append)] == [["docker.io/library/well:1"]]
    assert len(noticed) == 1
    assert removal.remove(store, "busybox").untagged == ["busybox:latest"]
    assert len(store.images()) == 1
    assert add(store, made, BUSYBOX).id == made.id  # pulled again, it is well


def test_a_damaged_layer_is_named(store: Store) -> None:
    made = sample()
    image = add(store, made, BUSYBOX)
    shutil.rmtree(store.layer_path(made.diff_ids[0]))
    path = store.blob_path(image.layers[0].digest)
    path.write_bytes(path.read_bytes()[:-9] + b"damaged!!")
    with pytest.raises(MinidockError, match=str(path)):
        store.ensure_layers(image)
    assert not store.layer_path(made.diff_ids[0]).exists()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"manifests": 3}', b'{"manifests": [{"digest": "../../x"}]}']
)
def test_a_damaged_index_is_named(store: Store, content: bytes) -> None:
    made = sample()
    add(store, made, BUSYBOX)
    store.layout.index_file.write_bytes(content)
    for use in (lambda: store.resolve("busybox"), store.images, lambda: removal.collect(store)):
        with pytest.raises(MinidockError, match=r"index\.json") as caught:
            use()
        assert "Move" in (caught.value.hint or "")
    assert store.has_blob(made.id)  # nothing was swept for want of a list
    store.layout.index_file.unlink()
    assert store.images() == []


# --- removal --------------------------------------------------------------------------------------


def used(store: Store, image_id: str, *, running: bool) -> Store:
    image = store.resolve(image_id)
    use = Use("c" * 64, image.id, tuple(image.diff_ids), running)
    return Store(store.root, uses=lambda: [use])


def test_removing_one_of_two_names_keeps_the_image(store: Store) -> None:
    made = sample()
    add(store, made, BUSYBOX)
    store.tag("busybox", "other")
    assert removal.remove(store, "busybox").lines() == ["Untagged: busybox:latest"]
    assert store.resolve("other").id == made.id


def test_removing_the_last_name_removes_everything(store: Store) -> None:
    made = sample({"a": b"1"}, {"b": b"2"})
    add(store, made, BUSYBOX, f"docker.io/library/busybox@{made.digest}")
    removed = removal.remove(store, "busybox")
    chain = chain_ids(made.diff_ids)
    assert removed.lines() == [
        "Untagged: busybox:latest",
        f"Untagged: busybox@{made.digest}",
        f"Deleted: {made.id}",
        f"Deleted: {chain[1]}",
        f"Deleted: {chain[0]}",
    ]
    assert removed.freed > 0
    assert os.listdir(store.layout.blobs) == [] and os.listdir(store.layers) == []


def test_a_shared_layer_stays(store: Store) -> None:
    add(store, sample({"base": b"b"}, {"x": b"1"}), "docker.io/library/one:1")
    two = add(store, sample({"base": b"b"}, {"y": b"1"}), "docker.io/library/two:1")
    deleted = removal.remove(store, "one:1").deleted
    assert len(deleted) == 2  # the image and its own layer
    assert all(tree.is_dir() for tree in store.ensure_layers(two))


def test_an_id_with_names_in_several_repositories_needs_force(store: Store) -> None:
    made = sample()
    add(store, made, BUSYBOX, "docker.io/library/other:1")
    with pytest.raises(Conflict, match=r"must be forced.*multiple repositories"):
        removal.remove(store, made.id)
    assert len(removal.remove(store, made.id[:19], force=True).untagged) == 2
    assert store.images() == []


def test_containers_protect_their_image(store: Store) -> None:
    made = sample()
    add(store, made, BUSYBOX)
    stopped, running = used(store, made.id, running=False), used(store, made.id, running=True)
    with pytest.raises(Conflict, match=r"\(must force\) - container cccccccccccc is using"):
        removal.remove(stopped, "busybox")
    with pytest.raises(Conflict, match=r"\(must be forced\) .* by stopped container cccccccccccc"):
        removal.remove(stopped, made.id)
    with pytest.raises(Conflict, match=r"\(cannot be forced\) .* by running container cccccccccccc"):
        removal.remove(running, made.id, force=True)
    assert store.resolve("busybox").names == [BUSYBOX]
    assert removal.remove(running, "busybox", force=True).lines() == ["Untagged: busybox:latest"]
    assert store.resolve(made.id).dangling
    assert removal.prune(running, unused=True).lines() == []


def test_a_forced_removal_keeps_the_layers_of_a_stopped_container(store: Store) -> None:
    made = sample()
    add(store, made, BUSYBOX)
    stopped = used(store, made.id, running=False)
    assert removal.remove(stopped, "busybox", force=True).deleted == [made.id]
    assert store.images() == []
    assert (store.layer_path(made.diff_ids[0]) / "hello").exists()
    removal.collect(store)  # the container is gone
    assert not store.layer_path(made.diff_ids[0]).exists()


def test_prune_takes_dangling_images_and_on_request_unused_ones(store: Store) -> None:
    dangling = add(store, sample(Labels={"n": "dangling"}))
    kept = add(store, sample(Labels={"n": "kept"}), BUSYBOX)
    assert removal.prune(store).deleted == [dangling.id]  # its layer is the other's, too
    removed = removal.prune(store, unused=True, wanted=lambda image: image.id != kept.id)
    assert removed.lines() == [] and len(store.images()) == 1
    removed = removal.prune(store, unused=True)
    assert removed.untagged == ["busybox:latest"]
    assert store.images() == []


@pytest.mark.parametrize("text", ["nobody", "f" * 12])
def test_removing_what_is_not_there(store: Store, text: str) -> None:
    with pytest.raises(NotFound):
        removal.remove(store, text)


def test_states_of_two_roots_never_meet(make_root: Callable[[], Path]) -> None:
    one, two = Store(make_root()), Store(make_root())
    add(one, sample(), BUSYBOX)
    assert two.images() == []
