"""The term and the space that a tutorial defines, docs/tutorials/your_own.md: the laws walk over them too."""

from __future__ import annotations

import ast
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import pdegcnn as pg

PAGE = Path(__file__).parents[1] / "docs" / "tutorials" / "your_own.md"


def classes(*names: str) -> list[Any]:
    """Run the definitions of classes in the cells of the page, and no other line."""
    cells = re.findall(r"```\{code-cell\} python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)
    scope: dict[str, Any] = {"torch": torch, "math": math, "pg": pg, "dataclass": dataclass, "__name__": __name__}
    for node in [node for cell in cells for node in ast.parse(re.sub(r"^:.*$", "", cell, flags=re.M)).body]:
        if isinstance(node, ast.ClassDef) and node.name in names:
            exec(compile(ast.Module([node], []), str(PAGE), "exec"), scope)
    return [scope[name] for name in names]


Reaction, Lines = classes("Reaction", "Lines")
pg.nn.TERMS["reaction"] = Reaction
