"""The site is complete and honest about its parts: lists name every page, links lead somewhere, cited tests exist.

The pages themselves, with every notebook, are built by ``make docs``, which fails at the first warning.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..test_architecture import PACKAGES, public_modules

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {p.relative_to(DOCS).as_posix(): p.read_text(encoding="utf-8") for p in sorted(DOCS.rglob("*.md"))}
PAGES = {name: text for name, text in PAGES.items() if not name.startswith(("_build/", "api/"))}
NOTEBOOKS = {name: text for name, text in PAGES.items() if "```{code-cell}" in text}
CELL = re.compile(r"```\{code-cell\}[^\n]*\n(?::[^\n]*\n)*(.*?)```", flags=re.S)


def site_api():
    """The module that writes the API pages."""
    spec = importlib.util.spec_from_file_location("site_api", DOCS / "site_api.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def listed(page: str) -> set[str]:
    """The pages in the toctrees of a page."""
    blocks = re.findall(r"```\{toctree\}\n(.*?)```", PAGES[page], flags=re.S)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return {line for line in lines if line and not line.startswith(":")}


@pytest.mark.parametrize("folder", ["tutorials", "theory"])
def test_lists_name_every_page_of_a_folder(folder: str) -> None:
    pages = {p.stem for p in (DOCS / folder).glob("*.md")} - {"index"}
    assert listed(f"{folder}/index.md") == pages


def test_every_page_is_on_a_list() -> None:
    lists = {name: {(Path(name).parent / page).as_posix() for page in listed(name)} for name in PAGES}
    reached = {page for pages in lists.values() for page in pages} | {"index"}
    assert {name.removesuffix(".md") for name in PAGES} == reached - {"api/index"}


def public_functions() -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield name and function of everything on the API pages that is called, methods too."""
    for full, home in site_api().homes().items():
        module, _, name = home.rpartition(".")
        value = getattr(importlib.import_module(module), name)
        members = vars(value).items() if inspect.isclass(value) else [("", value)]
        for member, found in members:
            function = getattr(found, "__func__", found)
            if full == home and inspect.isfunction(function) and not member.startswith("_"):
                yield f"{full}.{member}".rstrip("."), function


def test_docstrings_describe_every_argument_and_no_other() -> None:
    wrong = {}
    for name, function in public_functions():
        wanted = set(inspect.signature(function).parameters) - {"self", "cls"}
        section = (inspect.getdoc(function) or "").partition("Args:\n")[2].partition("\n\n")[0]
        described = re.findall(r"^    \*{0,2}(\w+(?:, \w+)*):", section, flags=re.M)
        if sorted(described) != sorted(wanted):
            wrong[name] = (described, wanted)
    assert not wrong


def test_every_tutorial_can_be_downloaded() -> None:
    for name in (n for n in NOTEBOOKS if n.startswith("tutorials/")):
        assert f"<{Path(name).stem}.ipynb>`" in PAGES[name], name


def test_api_pages_hold_every_public_name() -> None:
    api = site_api()
    assert sorted(api.public_modules()) == sorted(name.strip(".") for name in public_modules())
    described = {api.page_of(module) for module in api.public_modules()}
    assert described >= {name for name in PACKAGES if not name.startswith("_")} - {"data"}  # another name of a package
    assert set(api.page_names()) == described
    for module in api.public_modules():
        loaded = importlib.import_module(module)
        things = [name for name in loaded.__all__ if not inspect.ismodule(getattr(loaded, name))]
        assert {f"{module}.{name}" for name in things} <= set(api.homes())


def test_gallery_shows_every_example() -> None:
    sections = [s for page in ("gallery.md", "gallery_surfaces.md") for s in PAGES[page].split("\n## ")[1:]]
    for path in sorted((ROOT / "examples").glob("*.py")):
        (section,) = [s for s in sections if re.search(rf"`python examples/{path.name}( train)?`", s.splitlines()[2])]
        assert "](images/" in section or "{code-cell}" in section, f"{path.name} has no picture"
        assert f"<../examples/{path.name}>`" in section, f"{path.name} cannot be read from the gallery"


def test_files_to_download_exist() -> None:
    for page, text in PAGES.items():
        for target in re.findall(r"\{download\}`[^<`]*<([^>]+)>`", text):
            assert ((DOCS / page).parent / target).is_file(), f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_pages_and_pictures(page: str) -> None:
    text = re.sub(r"```.*?```", "", PAGES[page], flags=re.S)
    for target in re.findall(r"\]\(([^)\s#:]+)(?:#[^)]*)?\)", text):
        place = (DOCS / page).parent / target
        generated = (DOCS / "api") in place.resolve().parents or place.resolve() == DOCS / "api"
        assert generated or place.exists() or place.with_name(f"{place.name}.md").exists(), f"{page}: {target}"


def test_cited_tests_exist() -> None:
    cited = site_api().cited_tests()
    assert sum(map(len, cited.values())) > 50
    for path, names in cited.items():
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert set(names) <= functions, f"{path} lacks {set(names) - functions}"


def test_every_promise_has_a_test() -> None:
    rows = [line for line in PAGES["contributing/guarantees.md"].splitlines() if line.startswith("| ✓ |")]
    rows = [row for row in rows if "guarantee | tests" not in row]
    assert len(rows) > 25
    for row in rows:
        assert re.search(r"\{test\}`tests/[\w/]+\.py::test_\w+`", row.rpartition(" | ")[2]), row


def test_references_are_in_the_list() -> None:
    keys = set(re.findall(r"^@\w+\{(\w+),", (DOCS / "references.bib").read_text(encoding="utf-8"), flags=re.M))
    for page, text in PAGES.items():
        cited = {key.strip() for keys_ in re.findall(r"\{cite:\w+\}`([^`]+)`", text) for key in keys_.split(",")}
        assert cited <= keys, f"{page} cites {cited - keys}"


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_notebooks_compile_and_glue_what_the_text_uses(page: str) -> None:
    """Names that are computed in a loop cannot be read here; the build finds those that are missing."""
    cells = CELL.findall(NOTEBOOKS[page])
    assert cells
    glued = []
    for number, cell in enumerate(cells):
        for node in ast.walk(ast.parse(cell, filename=f"{page}, cell {number}")):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "glue":
                glued.append(node.args[0])
    literal = {node.value for node in glued if isinstance(node, ast.Constant)}
    free = [node for node in glued if not isinstance(node, ast.Constant)]
    for used in re.findall(r"\{glue:text\}`(\w+)", NOTEBOOKS[page]):
        assert used in literal or free, f"{page} uses {used}, which no cell glues"
