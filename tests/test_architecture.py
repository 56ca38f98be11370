"""Layout of the package: files and functions are short, public names are documented.

`make lint` checks the rest: import-linter the direction of imports, ruff docstrings and `print`.
"""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pdegcnn

ROOT = Path(pdegcnn.__file__).parent
FILES = {p.relative_to(ROOT).as_posix(): ast.parse(p.read_text(encoding="utf-8")) for p in sorted(ROOT.rglob("*.py"))}
LITERAL = re.compile(r"``.*?``|:[a-z]+:`.*?`|`.*?`")
PACKAGES = {path.partition("/")[0].removesuffix(".py") for path in FILES} - {"__init__"}


def public_modules() -> list[str]:
    """Return the dotted names of all modules that define ``__all__``."""
    chosen = [p for p, tree in FILES.items() if any("__all__" in names_assigned(node) for node in tree.body)]
    return ["pdegcnn." + p.removesuffix(".py").removesuffix("__init__").replace("/", ".").strip(".") for p in chosen]


def names_assigned(node: ast.stmt) -> set[str]:
    """Return the plain names that a statement assigns."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {t.id for t in targets if isinstance(t, ast.Name)}


def test_files_and_functions_are_short():
    for path, tree in FILES.items():
        length = len((ROOT / path).read_text(encoding="utf-8").splitlines())
        assert length <= 600, f"{path} has {length} lines"
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.body[0].lineno + 1  # a long list of options is fine
                assert lines <= 60, f"{path}: {node.name} has {lines} lines"


def test_public_names_exist_and_are_documented():
    for module in public_modules():
        loaded = importlib.import_module(module.removesuffix("."))
        assert len(set(loaded.__all__)) == len(loaded.__all__), f"{module}.__all__ names something twice"
        for name in loaded.__all__:
            assert hasattr(loaded, name), f"{module}.__all__ names {name}, which does not exist"
            value = getattr(loaded, name)
            if callable(value) and not (getattr(value, "__module__", None) or "").startswith("typing"):
                assert (value.__doc__ or "").strip(), f"{module}.{name} has no docstring"


def test_the_package_does_not_import_its_own_face():
    """``from pdegcnn import SE2`` inside the package would hide from import-linter what is imported."""
    for path in FILES.keys() - {"__init__.py"}:
        for node in ast.walk(FILES[path]):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module == "pdegcnn":
                names = [f"pdegcnn.{alias.name}" for alias in node.names]
            for name in names:
                if name.partition(".")[0] == "pdegcnn":
                    assert name.partition(".")[2].partition(".")[0] in PACKAGES, f"{path} imports {name}"


def test_first_lines_of_properties_have_no_colon():
    """Sphinx takes the words before it for a type."""
    for path, tree in FILES.items():
        for owner in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
            said = {f"{owner.name}.{name}": text for name, text in property_texts(owner)}
            found = {
                name for name, text in said.items() if "._" not in name and ":" in LITERAL.sub("", text.splitlines()[0])
            }
            assert not found, f"{path}: {sorted(found)}"


def property_texts(owner: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Yield names and docstrings of the properties and documented attributes of a class."""
    for node, after in zip(owner.body, owner.body[1:] + [None]):
        if isinstance(node, ast.FunctionDef) and any(ast.unparse(d).endswith("property") for d in node.decorator_list):
            yield node.name, ast.get_docstring(node) or " "
        elif isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and names_assigned(node):
            yield names_assigned(node).pop(), str(after.value.value)
