"""The house rules: imports go one way, rooms stay small, public names are documented, the library prints nothing."""

import ast
import importlib
from pathlib import Path

import pytest

import pdegcnn

ROOT = Path(pdegcnn.__file__).parent
FILES = {p.relative_to(ROOT).as_posix(): ast.parse(p.read_text(encoding="utf-8")) for p in sorted(ROOT.rglob("*.py"))}

LEVELS = {
    "_checks": 0,
    "_fft": 0,
    "_files": 0,
    "_modules": 0,
    "_transforms": -1,
    "sphere": 1,
    "surface": 1,
    "spaces": 2,
    "kernels": 3,
    "ops": 4,
    "reversible": 5,
    "pde": 6,
    "functional": 7,
    "nn": 8,
    "gauge": 9,
    "models": 10,
    "testing": 11,
    "recipes": 13,
    "data": 12,
    "plot": 12,
    "export": 12,
    "interop": 12,
    "io": 12,
}
"""A room may import from rooms of a lower level. Rooms of one level do not import each other."""
FORBIDDEN = {
    "data": {*LEVELS} - {"data", "_checks"},
    "plot": {*LEVELS} - {"plot", "_checks"},
    "recipes": {*LEVELS} - {"recipes", "_checks", "_files"},
    "reversible": {"spaces", "kernels", "pde", "nn"},
}
"""Rooms that a room must not import although they are lower."""
MAY_PRINT = {"ops/backend.py"}


def room(path: str) -> str:
    """The room of a file or of a module's path inside the package."""
    return path.partition("/")[0].removesuffix(".py")


def imported_rooms(path: str) -> set[str]:
    """The rooms that a file imports from, also inside functions and under ``TYPE_CHECKING``."""
    found: set[str] = set()
    package = ["pdegcnn", *path.split("/")[:-1]]
    for node in ast.walk(FILES[path]):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) + 1 - node.level], node.module or ""] if node.level else [node.module or ""]
            names = [".".join([*filter(None, base), alias.name]) for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("pdegcnn.")}
        assert "pdegcnn" not in names, f"{path} imports the whole package: name the room instead"
    return found - {room(path)}


def public_modules() -> list[str]:
    """Dotted names of all modules that say what is public."""
    chosen = [p for p, tree in FILES.items() if any("__all__" in names_assigned(node) for node in tree.body)]
    return ["pdegcnn." + p.removesuffix(".py").removesuffix("__init__").replace("/", ".").strip(".") for p in chosen]


def names_assigned(node: ast.stmt) -> set[str]:
    """The plain names that a statement assigns."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {t.id for t in targets if isinstance(t, ast.Name)}


@pytest.mark.parametrize("path", [p for p in FILES if p != "__init__.py"])
def test_imports_go_one_way(path):
    own = room(path)
    assert own in LEVELS, f"{path} is in a room without a level: give {own!r} one in LEVELS"
    for other in imported_rooms(path):
        assert other in LEVELS, f"{path} imports the unknown room {other!r}"
        assert LEVELS[other] < LEVELS[own], f"{path}: {own} must not import {other}; imports go downwards"
        assert other not in FORBIDDEN.get(own, set()), f"{path}: {own} must not know {other}"


def test_relative_and_hidden_imports_are_seen():
    """The reader of imports itself: every way to write one counts."""
    lines = "from pdegcnn import a; import pdegcnn.b.x; from pdegcnn.c import y; from ..d import z; from .. import e"
    FILES["spaces/zzz.py"] = ast.parse(f"def f():\n    {lines}\n")
    try:
        assert imported_rooms("spaces/zzz.py") == {"a", "b", "c", "d", "e"}
    finally:
        del FILES["spaces/zzz.py"]


@pytest.mark.parametrize("path", FILES)
def test_files_and_functions_are_short(path):
    length = len((ROOT / path).read_text(encoding="utf-8").splitlines())
    assert length <= 600, f"{path} has {length} lines"
    for node in ast.walk(FILES[path]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= 60, f"{path}: {node.name} has {lines} lines"


@pytest.mark.parametrize("module", public_modules())
def test_public_names_exist_and_are_documented(module):
    loaded = importlib.import_module(module.removesuffix("."))
    assert loaded.__doc__, f"{module} has no docstring"
    assert len(set(loaded.__all__)) == len(loaded.__all__), f"{module}.__all__ names something twice"
    for name in loaded.__all__:
        assert hasattr(loaded, name), f"{module}.__all__ names {name}, which does not exist"
        value = getattr(loaded, name)
        if callable(value) and not (getattr(value, "__module__", None) or "").startswith("typing"):
            assert (value.__doc__ or "").strip(), f"{module}.{name} has no docstring"


@pytest.mark.parametrize("path", [p for p in FILES if p not in MAY_PRINT])
def test_the_library_prints_nothing(path):
    calls = [n.func for n in ast.walk(FILES[path]) if isinstance(n, ast.Call)]
    assert not [f.lineno for f in calls if isinstance(f, ast.Name) and f.id == "print"], f"{path} prints"


def test_every_room_says_what_it_is():
    for path, tree in FILES.items():
        assert ast.get_docstring(tree), f"{path} has no docstring"
