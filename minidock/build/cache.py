"""The build cache: was this instruction carried out before, on the same image, with the same content?

The rules are those of Docker's classic builder. A step is found again when three things are equal: the
image that it starts from (the draft's id), the instruction's text (with the build arguments it sees), and
the content of the files that it copies. Times do not count. Because the next step starts from the image
that this one made, one miss makes misses of all that follow.

On disk: ``<root>/cache/build/<id it starts from>/<key>.json``, one small file a step. So the answer to
"why not?" is found in the directory: what was built on this image before, and what was different then.
Layers that a record names stay in the store until the cache is pruned.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from minidock import files, human
from minidock.build import steps
from minidock.build.draft import Draft, Step
from minidock.errors import MinidockError
from minidock.images.image import Image, Layer, unpacked_size

_MOST_FILES = 20_000  # names whose digests a record keeps, to say which of them changed
_SHOWN = 60  # characters of an instruction in a reason


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the cache: an instruction as `history` will show it, and what it reads.

    *content* is a digest over everything copied or mounted ("" when there is nothing), *files* the digests
    of the single files, to say which one changed. *unseen* is what counts beside and is in no history:
    the mounts of a RUN, and its script.
    """

    created_by: str
    content: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    unseen: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """*step* is the one found, or None: then *reason* says why not ("miss, because …")."""

    step: Step | None
    reason: str = ""


class Cache:
    """The cache of one state root. *images* are those of ``--cache-from``; where given, only they count.

    *newest* is the build's SOURCE_DATE_EPOCH: what was built with another has other times in it.
    """

    def __init__(
        self,
        root: Path,
        images: Iterable[Image] | None = None,
        *,
        used: bool = True,
        newest: int | None = None,
    ) -> None:
        self._directory = directory(root)
        self._images = None if images is None else list(images)
        self._used = used
        self._suffix = "" if newest is None else f"-{newest}"

    def ask(self, draft: Draft, question: Question) -> Answer:
        """Look for a step after *draft*."""
        if not self._used:
            return Answer(None, "--no-cache was given")
        if self._images is not None:
            found = (_next_step(image, draft, question.created_by) for image in self._images)
            step = next((each for each in found if each is not None), None)
            return Answer(step, "" if step else "no image of --cache-from has this step")
        own = self._after(draft)
        with suppress(OSError, ValueError, KeyError, TypeError):
            record = json.loads(self._record(draft, question).read_bytes())
            layer = Layer(**record["layer"]) if record["layer"] else None
            return Answer(Step(record["created"], question.created_by, layer))
        return Answer(None, _reason(list(_records(own)), question))

    def remember(self, draft: Draft, question: Question, step: Step) -> None:
        """Note that *step* was carried out after *draft*."""
        path = self._record(draft, question)
        files.make_private(path.parents[2])
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "created_by": question.created_by,
            "content": question.content,
            "files": dict(list(question.files.items())[:_MOST_FILES]),
            "created": step.created,
            "layer": asdict(step.layer) if step.layer else None,
        }
        files.write_json(path, record, sync=False)

    def forget(self, draft: Draft, question: Question) -> None:
        """Drop a record whose layer has gone."""
        self._record(draft, question).unlink(missing_ok=True)

    def _record(self, draft: Draft, question: Question) -> Path:
        key = steps.cache_key(draft.id, question.created_by, question.content, question.unseen)
        return self._after(draft) / f"{key}.json"

    def _after(self, draft: Draft) -> Path:
        """Where the records of the steps that followed *draft* are."""
        return self._directory / f"{draft.id.removeprefix('sha256:')}{self._suffix}"


def _next_step(image: Image, draft: Draft, created_by: str) -> Step | None:
    """The step of *image*'s history that followed *draft*, if it is the one that we are about to do."""
    done = len(draft.history)
    if len(image.history) <= done or image.diff_ids[: len(draft.layers)] != draft.diff_ids:
        return None
    if [each.get("created_by") for each in image.history[:done]] != [
        each.get("created_by") for each in draft.history
    ]:
        return None
    entry = image.history[done]
    if entry.get("created_by") != created_by:
        return None
    if entry.get("empty_layer"):
        return Step(entry.get("created") or "", created_by)
    if len(image.layers) <= len(draft.layers):
        return None
    return Step(entry.get("created") or "", created_by, image.layers[len(draft.layers)])


# --- why not -------------------------------------------------------------------------------------


def _reason(records: list[dict[str, object]], question: Question) -> str:
    """In words: what is different from what was built on this image before."""
    if not records:
        return "nothing was built on this image before"
    for record in records:
        if _without_content(record) == _without_content(question) and record["content"] != question.content:
            before = record["files"]
            return _changed(before if isinstance(before, dict) else {}, question.files)
    word = question.created_by.split(" ")[0:4]
    last = max(records, key=lambda each: _alike(str(each["created_by"]).split(" ")[0:4], word))
    return f"the instruction is another one: before it was `{human.shortened(_bare(last), _SHOWN)}`"


def _without_content(thing: Question | dict[str, object]) -> str:
    """``COPY file:1234… in /x`` without the digest that stands in it."""
    text, content = (
        (thing.created_by, thing.content)
        if isinstance(thing, Question)
        else (str(thing["created_by"]), str(thing["content"]))
    )
    return text.replace(content.removeprefix("sha256:"), "") if content else text


def _bare(record: dict[str, object]) -> str:
    return str(record["created_by"]).removeprefix("/bin/sh -c #(nop) ").removeprefix("/bin/sh -c ").strip()


def _alike(one: list[str], other: list[str]) -> int:
    """How many words are the same before the first that is not."""
    return next((at for at, pair in enumerate(zip(one, other, strict=False)) if len(set(pair)) > 1), len(one))


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """``app.py changed; new.txt is new``: at most three names."""
    found = [f"{name} changed" for name in now if name in before and before[name] != now[name]]
    found += [f"{name} is new" for name in now if name not in before]
    found += [f"{name} is gone" for name in before if name not in now]
    if not found:
        return "the copied files changed"
    more = f", and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(found[:3]) + more


# --- the cache as a whole ------------------------------------------------------------------------


def directory(root: Path) -> Path:
    """Where the records of the state root *root* are."""
    return root / "cache" / "build"


def digests(root: Path, context: Path) -> Path:
    """Where the digests of the files in *context* are kept (see known.py)."""
    name = hashlib.sha256(os.fsencode(os.path.realpath(context))).hexdigest()[:16]
    return root / "cache" / "digests" / f"{name}.json"


def roots(root: Path) -> Iterator[str]:
    """The digests and diff ids that the records name: the store keeps them."""
    for record in _all_records(root):
        layer = record.get("layer")
        if isinstance(layer, dict):
            yield str(layer.get("digest"))
            yield str(layer.get("diff_id"))


def layers(root: Path) -> dict[str, int]:
    """The layers that the records name, by diff id, and the bytes of their files."""
    found: dict[str, int] = {}
    for record in _all_records(root):
        layer = record.get("layer")
        if isinstance(layer, dict):
            unpacked = unpacked_size(root / "layers", str(layer["diff_id"]))
            found[str(layer["diff_id"])] = int(layer["size"]) if unpacked is None else unpacked
    return found


def kept_by_mounts(root: Path) -> int:
    """Bytes that ``RUN --mount=type=cache`` keeps."""
    return sum(files.disk_use(path) for path in (root / "cache" / "mounts").glob("*") if path.is_dir())


def count(root: Path) -> int:
    """How many steps the cache remembers."""
    return sum(1 for _ in directory(root).glob("*/*.json"))


def clear(root: Path) -> tuple[int, int]:
    """Forget all steps, and what ``RUN --mount=type=cache`` kept: (how many steps, bytes of the latter)."""
    number = count(root)
    kept = kept_by_mounts(root)
    files.remove_tree(root / "cache" / "mounts")
    files.remove_tree(root / "cache" / "digests")
    files.remove_tree(directory(root))
    return number, kept


def _all_records(root: Path) -> Iterator[dict[str, object]]:
    for each in directory(root).glob("*"):
        yield from _records(each)


def _records(where: Path) -> Iterator[dict[str, object]]:
    """The records in one directory, newest first; what is damaged counts as not there."""
    try:
        found = sorted(where.glob("*.json"), key=os.path.getmtime, reverse=True)
    except OSError:
        return
    for path in found:
        with suppress(OSError, ValueError, MinidockError):
            record = json.loads(path.read_bytes())
            if isinstance(record, dict) and "created_by" in record and "content" in record:
                yield record
