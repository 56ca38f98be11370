"""The API pages: one for each package of the library, with every name that a module lists in ``__all__``.

Nothing is listed by hand. ``conf.py`` writes the pages before the build and checks after it that each name got its
entry; references in docstrings find a name wherever it is public.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pdegcnn

PACKAGE = Path(pdegcnn.__file__).parent
PAGES = (
    "pdegcnn",
    "spaces",
    "functional",
    "nn",
    "models",
    "reversible",
    "gauge",
    "sphere",
    "surface",
    "kernels",
    "pde",
    "ops",
    "testing",
    "io",
    "export",
    "interop",
)
"""Order of the pages; others come last."""


@cache
def public_modules() -> tuple[str, ...]:
    """Return dotted names of all modules with an ``__all__``."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        targets = [t for node in tree.body if isinstance(node, ast.Assign) for t in node.targets]
        if any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets):
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            found.append(".".join(part for part in parts if part != "__init__"))
    return tuple(sorted(found, key=lambda name: (name.count("."), name)))


def page_of(module: str) -> str:
    """Return the page on which a module is described."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def page_names() -> list[str]:
    """Return all pages, in order."""
    found = {page_of(module) for module in public_modules()}
    return [name for name in PAGES if name in found] + sorted(found - set(PAGES))


@cache
def homes() -> dict[str, str]:
    """Map every public dotted name to the one under which it is described: packages before the library itself."""
    seen: dict[int, str] = {}
    found: dict[str, str] = {}
    for module in (*(m for m in public_modules() if m != "pdegcnn"), "pdegcnn"):
        loaded = importlib.import_module(module)
        for name in loaded.__all__:
            value, full = getattr(loaded, name), f"{module}.{name}"
            if isinstance(value, ModuleType):
                continue
            unique = callable(value) and hasattr(value, "__qualname__")
            found[full] = seen.setdefault(id(value), full) if unique else full
    return found


def _summary(value: Any) -> str:
    """Return the first sentence of a docstring; of a table its keys."""
    if isinstance(value, Mapping):
        keys = ", ".join(f"``{key!r}``" if isinstance(key, str) else f"``{key.__name__}``" for key in value)
        return f"Table of {keys}."
    if isinstance(value, tuple):
        return "The tuple " + ", ".join(f"``{getattr(v, '__name__', v)}``" for v in value) + "."
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return f"``{value}``"
    text = " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())
    return _plain(re.split(r"(?<=[.])\s+(?=[A-Z`])", text)[0])


def _entry(full: str, value: Any) -> list[str]:
    if inspect.isclass(value):
        return [f".. autoclass:: {full}", ""]
    if inspect.isroutine(value):
        return [f".. autofunction:: {full}", ""]
    return [f".. py:data:: {full.rpartition('.')[2]}", "", f"   {_summary(value)}", ""]


def _page(name: str) -> list[str]:
    """Return a page: its main module, then sections for the others."""
    main = name if name == "pdegcnn" else f"pdegcnn.{name}"
    modules = [module for module in public_modules() if page_of(module) == name]
    lines = [main, "=" * len(main), ""]
    if main not in modules:
        lines += [*_prose(importlib.import_module(main)), ""]
    for module in modules:
        lines += ([] if module == main else [module, "-" * len(module), ""]) + _section(module)
    return lines


def _section(module: str) -> list[str]:
    """Return a module: its docstring, the table of its names, the entries of those that are described here."""
    loaded = importlib.import_module(module)
    own = [name for name in loaded.__all__ if f"{module}.{name}" in homes()]
    lines = [f".. py:module:: {module}", "", *_prose(loaded), ""]
    if own:
        lines += [".. list-table::", "   :widths: 30 70", "   :class: names", ""]
    for name in own:
        lines += [
            f"   * - :py:obj:`{name} <{homes()[f'{module}.{name}']}>`",
            f"     - {_summary(getattr(loaded, name))}",
        ]
    lines.append("")
    for name in own:
        full = f"{module}.{name}"
        if homes()[full] == full:
            lines += _entry(full, getattr(loaded, name))
    return lines


def _prose(module: ModuleType) -> list[str]:
    return (inspect.getdoc(module) or "").splitlines()


def write_pages(folder: Path) -> None:
    """Write all pages and their list; files that would not change stay untouched."""
    folder.mkdir(exist_ok=True)
    index = ["API reference", "=" * 13, "", "Every public name, from its docstring.", ""]
    index += [".. toctree::", "   :maxdepth: 1", "", *(f"   {name}" for name in page_names()), ""]
    index += ["", ".. toctree::", "", "   tests", ""]
    pages = {"index": index, "tests": _tests_page()} | {name: _page(name) for name in page_names()}
    for name, lines in pages.items():
        path, text = folder / f"{name}.rst", "\n".join(lines)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in folder.glob("*.rst"):
        if path.stem not in pages:
            path.unlink()


def _plain(line: str) -> str:
    """Return a line of a docstring with ``[..., *shape]`` and ``|x|`` escaped outside literals and formulas."""
    parts = re.split(r"(``.*?``|:math:`.*?`)", line)
    parts[::2] = [re.sub(r"\*(?=\w+\.shape|shape|space)", r"\*", part).replace("|", r"\|") for part in parts[::2]]
    return "".join(parts)


def escape(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Keep shapes and bars in docstrings from being markup, except in literal blocks and formulas; see `_plain`."""
    literal = False
    for n, line in enumerate(lines):
        formula = line.startswith(".. math::")
        literal = formula or (literal and (not line.strip() or line.startswith("    ")))
        lines[n] = line if literal else _plain(line)
        literal = literal or line.rstrip().endswith("::")


def skip(app: Any, what: str, name: str, value: Any, skipped: bool, options: Any) -> bool | None:
    """Leave out fields of named tuples and methods that every module has."""
    said = inspect.getdoc(value) or ""
    return True if said.startswith("Alias for field number") or name == "extra_repr" else None


def cited_tests() -> dict[str, list[str]]:
    """Return the test files that pages cite, with names of tests in order."""
    found: dict[str, list[str]] = {}
    here = Path(__file__).parent
    for page in sorted(page for page in here.rglob("*.md") if "_build" not in page.parts):
        for path, name in re.findall(r"\{test\}`([\w/.]+)::(\w+)`", page.read_text(encoding="utf-8")):
            if name not in found.setdefault(path, []):
                found[path].append(name)
    return found


def _tests_page() -> list[str]:
    """Return the page with the sources of all cited tests."""
    lines = ["Tests that these pages cite", "=" * 27, "", "Sources, as they run in ``make test``.", ""]
    for path, names in sorted(cited_tests().items()):
        lines += [path, "-" * len(path), ""]
        for name in names:
            lines += [f".. _{_label(path, name)}:", "", name, "~" * len(name), ""]
            lines += [f".. literalinclude:: ../../{path}", f"   :pyobject: {name}", ""]
    return lines


def _label(path: str, name: str) -> str:
    return f"{path}-{name}".replace("/", "-").replace(".", "-").replace("_", "-").lower()


def test_role(name: str, raw: str, text: str, line: int, inliner: Any, options: Any = None, content: Any = ()) -> Any:
    """Build the role ``{test}`path::name```: a link to the source of a test."""
    from docutils import nodes
    from sphinx.addnodes import pending_xref

    path, _, test = text.partition("::")
    link = pending_xref(
        "", refdomain="std", reftype="ref", reftarget=_label(path, test), refexplicit=True, refwarn=True,
        refdoc=inliner.document.settings.env.docname,
    )  # fmt: skip
    link += nodes.literal("", test.removeprefix("test_").replace("_", " "), classes=["test"])
    return [link], []


def resolve(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Find the entry of a name that a docstring abbreviates: ``pdegcnn.SE2``, ``PDELayer``, ``SE2.exp``."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    name, _, member = target.rpartition(".")
    own = node.get("py:module") or ""
    for spelled, rest in ((target, ""), (name, f".{member}")):
        homes_of = [h for full, h in homes().items() if full == spelled or full.endswith(f".{spelled}")]
        homes_of.sort(key=lambda home: not home.startswith(f"{own}."))
        for home in homes_of if spelled else ():
            domain = env.get_domain("py")
            found = domain.resolve_xref(env, node["refdoc"], app.builder, "obj", home + rest, node, content)
            if found is not None:
                return found
    return None


def check_inventory(app: Any, error: Exception | None) -> None:
    """Fail the build when a public name has no entry."""
    if error is None and app.builder.format == "html":
        entries = app.env.get_domain("py").objects
        missing = sorted(home for home in set(homes().values()) if home not in entries)
        if missing:
            raise ValueError(f"the API pages lack {missing}")


def check_pictures(app: Any, error: Exception | None) -> None:
    """Fail the build when a page shows the name of a figure in place of the figure."""
    if error is None and app.builder.format == "html":
        pages = sorted(
            p for p in Path(app.outdir).rglob("*.html") if "&lt;Figure size" in p.read_text(encoding="utf-8")
        )
        if pages:
            raise ValueError(f"figures are not drawn on {[str(p.relative_to(app.outdir)) for p in pages]}")
