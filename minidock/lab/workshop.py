"""Labs and the student's workshop: what there is to do, the student's own files, and the progress.

A lab is a directory ``labs/NN_topic/`` of the repository. Its ``lab.toml`` names the tasks; the student
works on a copy of ``skeleton.py`` in the workshop, ``~/mydock/``. Progress is plain JSON beside it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import time
import tomllib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minidock import files
from minidock.errors import Conflict, InvalidInput, MinidockError, NotFound

LABS = Path(__file__).resolve().parents[2] / "labs"


@dataclass(frozen=True, slots=True)
class Task:
    """One step of a lab. *functions* are those that the student writes; *minutes* is a guess."""

    number: int
    title: str
    functions: tuple[str, ...]
    points: int
    difficulty: str
    minutes: int
    hints: tuple[str, ...]  # three strengths: a direction, the mechanism, almost the answer


@dataclass(frozen=True, slots=True)
class Lab:
    """One lab. *file* is the layer that the student writes: ``rootfs`` for ``rootfs.py``."""

    number: str
    directory: Path
    title: str
    file: str
    lesson: str
    tasks: tuple[Task, ...]

    @property
    def points(self) -> int:
        return sum(task.points for task in self.tasks)

    def task(self, number: int | str) -> Task:
        """Task *number*, or the one that a person typed; NotFound when the lab has no such task."""
        for task in self.tasks:
            if str(task.number) == str(number):
                return task
        known = ", ".join(str(task.number) for task in self.tasks)
        raise NotFound(f"lab {self.number}: no task {number}", hint=f"Its tasks are {known}.")


def labs(directory: Path = LABS) -> list[Lab]:
    """Every lab of the course, in order."""
    return [_read(path.parent) for path in sorted(directory.glob("[0-9][0-9]_*/lab.toml"))]


def find(number: str, directory: Path = LABS) -> Lab:
    """The lab that *number* names: ``1``, ``01`` or ``01_root``. NotFound when there is none."""
    wanted = number.partition("_")[0].zfill(2)
    for lab in labs(directory):
        if lab.number == wanted:
            return lab
    known = ", ".join(lab.number for lab in labs(directory))
    raise NotFound(f"no lab {number!r}", hint=f"There are: {known}.")


def _read(directory: Path) -> Lab:
    data = tomllib.loads((directory / "lab.toml").read_text())
    tasks = tuple(
        Task(
            number=task["number"],
            title=task["title"],
            functions=tuple(task.get("functions", ())),
            points=task["points"],
            difficulty=task["difficulty"],
            minutes=task["minutes"],
            hints=tuple(hint.strip() for hint in task["hints"]),
        )
        for task in data["task"]
    )
    return Lab(directory.name[:2], directory, data["title"], data["file"], data["lesson"], tasks)


@dataclass(slots=True)
class Workshop:
    """The student's directory: their layers, and ``progress.json``."""

    directory: Path
    progress: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, directory: Path | None = None) -> Workshop:
        """The workshop in *directory*, ``MINIDOCK_LAYERS``, or ``~/mydock`` of the person at the keyboard.

        sudo changes ``~`` to root's home, so the home of ``SUDO_USER`` is what counts.
        """
        chosen = directory or (Path(layers) if (layers := os.environ.get("MINIDOCK_LAYERS")) else None)
        if chosen is None:
            chosen = _home() / "mydock"
        workshop = cls(chosen.expanduser().absolute())
        path = workshop.directory / "progress.json"
        if path.exists():
            workshop.progress = _progress(path)
        return workshop

    def file(self, lab: Lab) -> Path:
        return self.directory / f"{lab.file}.py"

    def start(self, lab: Lab) -> Path:
        """Copy the lab's skeleton into the workshop. Conflict when the student has a file there already."""
        target = self.file(lab)
        if target.exists():
            raise Conflict(
                f"lab {lab.number}: {target} exists already",
                hint=f"Go on with it, or `minidock lab reset {lab.number}` to begin again (a copy is kept).",
            )
        self._make_directory()
        shutil.copyfile(lab.directory / "skeleton.py", target)
        self._give_to_student(target)
        self.record(lab).setdefault("started", _now())
        self.save()
        return target

    def reset(self, lab: Lab) -> Path | None:
        """Put the skeleton back. The student's file is kept beside it; returns where, or None."""
        target, kept = self.file(lab), None
        if target.exists():
            kept = target.with_name(f"{target.name}.{time.strftime('%Y%m%d-%H%M%S')}")
            if kept.exists():
                raise Conflict(f"{kept} exists already", hint="Wait a second and try again.")
            target.rename(kept)
        self.progress.pop(lab.number, None)
        self.start(lab)
        return kept

    def hint(self, lab: Lab, number: int, strength: int | None) -> tuple[int, str]:
        """A hint for task *number*: the next stronger one, or the one of *strength* (1 to 3)."""
        task = lab.task(number)
        seen = self.record(lab).setdefault("hints", {})
        chosen = strength or min(seen.get(str(number), 0) + 1, len(task.hints))
        if not 1 <= chosen <= len(task.hints):
            raise InvalidInput(f"hints have the strengths 1 to {len(task.hints)}, not {chosen}")
        seen[str(number)] = max(chosen, seen.get(str(number), 0))
        self.save()
        return chosen, task.hints[chosen - 1]

    def record(self, lab: Lab) -> dict[str, Any]:
        """What progress.json holds about *lab*; changes count after :meth:`save`."""
        record: dict[str, Any] = self.progress.setdefault(lab.number, {})
        return record

    def save(self) -> None:
        """Write the progress, readable by the student whoever ran the command."""
        self._make_directory()
        path = self.directory / "progress.json"
        files.write_json(path, self.progress, mode=0o644, sync=False)
        self._give_to_student(path)

    def _make_directory(self) -> None:
        if not self.directory.exists():
            self.directory.mkdir(parents=True)
            self._give_to_student(self.directory)

    def _give_to_student(self, path: Path) -> None:
        # Under sudo the file would belong to root, and the student's editor could not save it.
        student = os.environ.get("SUDO_UID")
        if student and os.geteuid() == 0:
            os.chown(path, int(student), int(os.environ.get("SUDO_GID", student)))


def _home() -> Path:
    student = os.environ.get("SUDO_USER")
    try:
        return Path(pwd.getpwnam(student).pw_dir) if student else Path.home()
    except KeyError:
        raise NotFound(
            f"SUDO_USER: no user {student!r}", hint="MINIDOCK_LAYERS=DIR names a workshop."
        ) from None


def _progress(path: Path) -> dict[str, Any]:
    """What :meth:`Workshop.save` wrote; InvalidInput for anything else: an editor may have been at it."""
    with suppress(MinidockError):
        progress = files.read_json(path)
        if isinstance(progress, dict) and all(map(_is_record, progress.values())):
            return progress
    hint = "Move it away to begin a new one. Your code is not in it."
    raise InvalidInput(f"{path}: not a progress file", hint=hint)


def _is_record(record: Any) -> bool:
    """Whether *record* may be one lab's: the hints seen, by task, and the outcomes of its checks."""
    if not isinstance(record, dict):
        return False
    hints, checks = record.get("hints", {}), record.get("checks", {})
    return (
        isinstance(hints, dict)
        and all(isinstance(strength, int) for strength in hints.values())
        and isinstance(checks, dict)
        and all(
            isinstance(each, dict) and {"task", "outcome", "attempts"} <= each.keys()
            for each in checks.values()
        )
    )


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
