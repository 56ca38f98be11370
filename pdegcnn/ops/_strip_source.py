"""Common source text of kernels that hold some rows of a column in registers (``triton_strips.py`` runs them)."""

from __future__ import annotations

from collections.abc import Iterator

HEAD = '''"""{title} Written by {author}."""

import triton
import triton.language as tl


@triton.jit(do_not_specialize={numbers})
def {name}(
{arguments}):
'''

LANES = """\
    entry, y = tl.program_id(0), tl.program_id(1) * {rows}
    lane = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)  # columns of all signals of the batch
    b, x = tl.minimum(lane // width, batch - 1), lane % width
    area = frame_height * frame_width
    before = b.to(tl.int64) * (channels * orientations)
"""


def head(title: str, author: str, name: str, arguments: str) -> str:
    """Return the beginning of a module: docstring, imports, and the first lines of the kernel ``name``.

    Args:
        title: what the kernel computes.
        author: file that writes it.
        name: name of the kernel.
        arguments: names, separated by commas; numbers come last and begin with ``batch``.
    """
    lines = "".join(f"    {a},\n" for a in [*arguments.split(", "), "BLOCK: tl.constexpr"])
    numbers = arguments[arguments.index("batch") :].split(", ")
    return HEAD.format(title=title, author=author, name=name, numbers=numbers, arguments=lines)


def stores(rows: int, targets: dict[str, str]) -> Iterator[str]:
    """Write the variables ``targets[name]0``, ``...1`` of all rows to the tensors ``name``."""
    yield "    left = tl.where(lane < batch * width, height - y, 0)  # rows to write"
    yield from (f"    to_{name} = {name} + place" for name in targets)
    for r in range(rows):
        for name, variable in targets.items():
            yield f"    tl.store(to_{name}, {variable}{r}.to({name}.dtype.element_ty), mask=left > {r})"
            yield f"    to_{name} += width"
