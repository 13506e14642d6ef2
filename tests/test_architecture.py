"""The house rules that a reader of the code relies on, read from the source with `ast`.

A floor imports floors below it; inside a floor there are no circles; faces (cli, lab) see the engine and
floor 0 only; seams are called through their module, else a student's layer would not take effect; and
what `minidock run` imports stays light.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from minidock.layers import SEAMS

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "minidock"

GROUND = {"errors", "trace", "files", "config", "layers", "notation", "mount_notation", "human", "events"}
FLOORS = {"kernel": 1, "images": 2, "containers": 3, "build": 4}
FACES = {"cli", "server", "compose", "lab"}
ENGINE, FACE = 5, 6

# Each costs tens of milliseconds or more to import: inside functions only.
HEAVY = {"rich", "requests", "pyroute2", "subprocess", "tempfile", "logging"}
HEAVY |= {"inspect", "asyncio", "http", "urllib", "shlex", "uuid"}


@dataclass(frozen=True)
class Import:
    """``from minidock.kernel import rootfs`` → module minidock.kernel.rootfs; *name* when it is no module."""

    module: str
    name: str
    line: int
    lazy: bool


def modules() -> dict[str, ast.Module]:
    """Every module of the package by its dotted name."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(REPOSITORY).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(file.read_text(), str(file))
    return found


MODULES = modules()


def imports_of(name: str) -> list[Import]:
    """All imports in a module, those inside functions too (a circle is a circle, however late)."""
    found: list[Import] = []

    def visit(node: ast.AST, lazy: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend(Import(alias.name, "", child.lineno, lazy) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{name}:{child.lineno}: imports are absolute here"
                for alias in child.names:
                    whole = f"{child.module}.{alias.name}"
                    if whole in MODULES:
                        found.append(Import(whole, "", child.lineno, lazy))
                    else:
                        found.append(Import(str(child.module), alias.name, child.lineno, lazy))
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            visit(child, lazy or inside or _only_for_types(child))

    visit(MODULES[name], False)
    return found


def _only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def floor_of(module: str) -> int:
    """0..5 for the floors, 6 for a face. What stands beside engine.py is part of floor 5."""
    parts = module.split(".")
    if len(parts) == 1 or parts[1] in GROUND:
        return 0
    if parts[1] in FACES or parts[1] == "__main__":
        return FACE
    return FLOORS.get(parts[1], ENGINE)


def local(name: str) -> list[Import]:
    return [each for each in imports_of(name) if each.module.split(".")[0] == "minidock"]


@pytest.mark.parametrize("name", MODULES)
def test_a_floor_imports_only_floors_below_it(name: str) -> None:
    floor = floor_of(name)
    wrong = [each for each in local(name) if floor_of(each.module) > floor]
    assert not wrong, f"{name} (floor {floor}) reaches up: {wrong}"


@pytest.mark.parametrize("name", [name for name in MODULES if floor_of(name) == FACE])
def test_a_face_sees_the_engine_and_the_ground_floor_only(name: str) -> None:
    wrong = [each for each in local(name) if floor_of(each.module) not in (0, ENGINE, FACE)]
    assert not wrong, f"{name} looks into the engine's insides: {wrong}"


def test_only_the_command_looks_at_other_faces() -> None:
    wrong = [
        f"{name} imports {each.module}"
        for name in MODULES
        if floor_of(name) == FACE
        for each in local(name)
        if floor_of(each.module) == FACE
        and each.module.split(".")[1] != name.split(".")[1]
        and name.split(".")[1] not in ("cli", "__main__")
    ]
    assert not wrong, wrong


def test_no_circles() -> None:
    """Depth first through the import graph; a module met again on the way down is a circle."""
    graph = {name: sorted({each.module for each in local(name)} - {name}) for name in MODULES}
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> None:
        if name in path:
            pytest.fail("circle: " + " → ".join([*path[path.index(name) :], name]))
        if name in done or name not in graph:
            return
        for other in graph[name]:
            walk(other, [*path, name])
        done.add(name)

    for name in graph:
        walk(name, [])


def test_seams_are_called_through_their_module() -> None:
    """``from minidock.kernel.rootfs import pivot_into`` would keep the library's function forever."""
    wrong = [
        f"{name}:{each.line}: from {each.module} import {each.name}"
        for name in MODULES
        for each in imports_of(name)
        if each.module in SEAMS.values()
        and each.name
        and each.name.islower()
        and not name.startswith(each.module)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_seam_exists_once_its_floor_does() -> None:
    for name, module in SEAMS.items():
        assert module in MODULES, f"the seam {name} names {module}, which does not exist"


def test_there_is_one_door_to_libc() -> None:
    users = {
        name for name in MODULES if any(each.module.split(".")[0] == "ctypes" for each in imports_of(name))
    }
    assert users <= {"minidock.kernel.door"}, f"ctypes belongs in kernel/door.py alone: {users}"


def on_the_hot_path(name: str) -> bool:
    """The modules that `minidock run` needs before the container's first instruction."""
    return floor_of(name) in (1, 3) or name in ("minidock.engine", "minidock.cli.main", "minidock.cli.run")


@pytest.mark.parametrize("name", [name for name in MODULES if on_the_hot_path(name)])
def test_the_hot_path_imports_nothing_heavy(name: str) -> None:
    wrong = [each for each in imports_of(name) if not each.lazy and each.module.split(".")[0] in HEAVY]
    assert not wrong, f"{name}: import lazily, inside the function: {wrong}"


@pytest.mark.parametrize("verb", ["cli.run", "cli.build build_page build.builder"])
def test_starting_the_command_loads_nothing_heavy(verb: str) -> None:
    """The same, seen from outside: what is in sys.modules once engine and command are imported."""
    wanted = ["__main__", "cli.main", "engine", *verb.split()]
    heavy = HEAVY | {"tokenize", "ast", "dis"}
    heavy.discard("urllib")  # an empty package
    if verb == "cli.run" and sys.version_info < (3, 13):  # whose pathlib and dataclasses import more
        heavy |= {"copy", "hashlib", "shutil", "signal", "typing", "urllib.parse"}
    site = next(path for path in sys.path if path.endswith("site-packages"))
    code = (
        f"import sys; sys.path += [{str(REPOSITORY)!r}, {site!r}]\n"
        + "".join(f"import minidock.{name}\n" for name in wanted)
        # Without the stand-ins of cli/early.py, which nobody has looked into.
        + "print(*(name for name, module in sys.modules.items() if module))"
    )
    loaded = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True, check=True)
    assert not set(loaded.stdout.split()) & heavy


def test_importing_the_package_costs_nothing() -> None:
    assert not imports_of("minidock")


@pytest.mark.parametrize(
    "file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE))
)
def test_a_file_fits_a_sitting(file: Path) -> None:
    lines = len(file.read_text().splitlines())
    assert lines <= 400, f"{lines} lines: which idea in it deserves its own name?"
    assert file.stem not in ("utils", "helpers", "manager", "common")
