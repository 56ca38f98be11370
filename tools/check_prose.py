"""Check the words of pages, docstrings and comments: ``python -m tools.check_prose``. ``make lint`` runs it.

Each rule is a phrase that readers stumble over, with what to write instead. Docstrings of functions in the library
start with a verb: ``Return ...``, ``Compute ...``. Spelling is checked by codespell.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("pdegcnn", "examples", "tools", "benchmarks", "tests", "docs")
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")

RULES = {
    r"(?<!there )(?<!There )\b(is|are|was|were|be) no (?!longer|more\b|less\b|\w+er than)": "is not a ..., has no ...",
    r"\b[Nn]one of (?!the above)": "no ..., without ...",
    r"\bdear(er|est)?\b": "expensive, costs more",
    r", for (it|they|there) ": ", because ...",
    r"\b(whence|thereof|whereby|wherein|thereby|upon|whilst|hitherto|albeit)\b": "a word of today",
    r"\bin the manner of\b": "as in ..., like ...",
    r"\bgives? way\b": "is replaced by ...",
    r"\b(mend|mends|mended|mending)\b": "fix, correct",
    r"\bno way (to|back|of)\b": "cannot ...",
    r"\b([Ii]t should be noted|[Ii]t is worth|[Nn]ote that|[Ii]n order to|[Ii]t is important)\b": "only what follows",
    r"\b(utili[sz]e|leverage|facilitate)s?\b": "use, help",
    r"\bbut for\b": "except",
    r"\bfold(s|ed)? back\b": "alias",
    r"\bknows? (no|nothing|neither|front)\b": "does not ..., without ...",
    r"\b(the|its|a) way back\b": "the inverse, backwards",
    r"\bunless told\b": "by default",
    r"\b(of|on) (its|their|one's) own(?=[.,;:)]|$)": "separate, alone",
    r"\bso many\b": "as many, this number",
    r"\b(anew|anyhow|apiece|naught|aught)\b": "again, in any case",
    r"\bone after (the )?other\b": "in turn",
    r"\bfor anything but\b": "if ... is not ...",
    r"\bTypeError, ValueError: ": "a line for each error with its reason",
    r"\b(never|ever|could|can) wins?\b": "attain the maximum",
    r"\bcannot look\b": "cannot read",
    r"\b(speaks|want of|nothing but)\b": "takes, uses; lack of; only",
    r"\b(in|out)side of\b": "inside, outside",
    r"(^|[.:] )So (it|the|they|a|an|we|this|that)\b": "therefore, ..., so ...",
    r"\b(the|a|an|of|to|in|is|and|it|for|by|with) \1\b": "the word once",
}

NOT_VERBS = re.compile(
    r"``|\W*(An?|The|Th[ei]se?|Its?|What|Whether|How|Where|When|All|Each|Every|Number|(?!Partition)\w+ion|\w+ness)\b"
)
"""How the docstring of a function begins that says what it is, not what it does."""


def files() -> Iterator[Path]:
    """Yield the pages and Python files of the project."""
    yield from (ROOT / page for page in PAGES)
    for folder in FOLDERS:
        for pattern in ("*.md", "*.py"):
            yield from (p for p in sorted((ROOT / folder).rglob(pattern)) if not {"_build", "api"} & set(p.parts))


def findings(path: Path) -> Iterator[str]:
    """Yield a line for each phrase of a file that a rule is against."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for rule, advice in RULES.items():
            for found in re.finditer(rule, line):
                yield f"{path.relative_to(ROOT)}:{number}: {found[0].strip()!r}: write {advice}"


def nouns(path: Path) -> Iterator[str]:
    """Yield a line for each function of a file whose docstring does not start with a verb; properties may."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef) or any("property" in ast.unparse(d) for d in node.decorator_list):
            continue
        if NOT_VERBS.match(ast.get_docstring(node) or ""):
            yield f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}: start its docstring with a verb"


def main() -> int:
    """Print the findings and return the exit status."""
    found = [finding for path in files() if path != Path(__file__).resolve() for finding in findings(path)]
    found += [finding for path in sorted((ROOT / "pdegcnn").rglob("*.py")) for finding in nouns(path)]
    print("\n".join(found or ["words: nothing found"]))
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
