"""Swappable layers: a student's file stands in for a module of the library.

``MINIDOCK_LAYERS=~/mydock`` (or ``--layers``): for each file there whose name is in :data:`SEAMS`, its
public functions replace those of the library's module. Functions that the file lacks stay the
library's. The engine calls seams through their module (``rootfs.pivot_into(…)``), so the replacement
is what runs; the trace names the student's file behind each step.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import traceback
from collections.abc import Callable
from pathlib import Path

from minidock import trace
from minidock.errors import InvalidInput

SEAMS = {
    "rootfs": "minidock.kernel.rootfs",
    "namespaces": "minidock.kernel.namespaces",
    "cgroups": "minidock.kernel.cgroups",
    "overlay": "minidock.kernel.overlay",
    "layer": "minidock.images.layer",
    "distribution": "minidock.images.distribution",
    "dockerfile": "minidock.build.dockerfile",
    "steps": "minidock.build.steps",
}


def load(directory: Path) -> dict[str, list[str]]:
    """Put the student's functions in place; returns ``{"rootfs": ["pivot_into", …]}``.

    Only functions *defined* in the student's file count: one imported from the library does not.
    Raises InvalidInput when the directory is missing or a file does not import.
    """
    if not directory.is_dir():
        raise InvalidInput(
            f"layers: {directory}: no such directory", hint="Run `minidock lab start 01` first."
        )
    swapped: dict[str, list[str]] = {}
    for name, library_name in SEAMS.items():
        file = directory / f"{name}.py"
        if not file.is_file():
            continue
        library = importlib.import_module(library_name)
        for function_name, function in _functions_of(file, name):
            original = getattr(library, function_name, None)
            if original is None:
                continue  # a helper of the student's own
            known = getattr(original, "__minidock_mechanism__", None)
            why = known.why if known else (inspect.getdoc(function) or "").partition("\n")[0]
            lesson = known.lesson if known else None
            setattr(library, function_name, trace.label(function, lesson=lesson, why=why, source=str(file)))
            swapped.setdefault(name, []).append(function_name)
    return swapped


def defined(directory: Path, name: str) -> list[str]:
    """The public functions that the student's ``NAME.py`` itself defines; none when there is no file."""
    file = directory / f"{name}.py"
    return [function_name for function_name, _ in _functions_of(file, name)] if file.is_file() else []


def _functions_of(file: Path, name: str) -> list[tuple[str, Callable[..., object]]]:
    spec = importlib.util.spec_from_file_location(f"mydock.{name}", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        why = error.msg if isinstance(error, SyntaxError) else error
        where = f"{file}, line {_line(file, error)}"
        raise InvalidInput(f"layers: {where}: {type(error).__name__}: {why}") from None
    return [
        (key, value)
        for key, value in inspect.getmembers(module, inspect.isfunction)
        if not key.startswith("_") and value.__module__ == module.__name__
    ]


def _line(file: Path, error: Exception) -> int | None:
    """The line of the student's *file* that *error* is about, wherever below it was raised."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return error.lineno  # no line of it was run
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)
    ]
    return lines[-1] if lines else None
