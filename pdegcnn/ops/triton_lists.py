# pyright: reportMissingImports=false
# (Triton has no wheels for some systems)
"""What Triton kernels share that walk over the lists of ``directional_neighbors.py``."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def block(start, vertices, count, LANES: tl.constexpr, BLOCK: tl.constexpr):
    """Return plane, vertices and orientations of a program, which of them exist, and the ends of their lists."""
    blocks = tl.cdiv(vertices, BLOCK)
    plane = (tl.program_id(0) // blocks).to(tl.int64)
    v = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    i = tl.arange(0, LANES)
    real, use = v < vertices, i < count
    here = (plane * vertices + v)[:, None] * count + i[None, :]
    first, end = tl.load(start + v, mask=real, other=0), tl.load(start + v + 1, mask=real, other=0)
    return plane, v, i, real, use, here, first, end


@triton.jit
def pair(columns, offset, turn, steps, e, exists):
    """Return the vertex of pair ``e``, its coordinates seen from the first vertex, and its turn as angle and steps."""
    w = tl.load(columns + e, mask=exists, other=0)
    zx = tl.load(offset + 2 * e, mask=exists, other=0.0)[:, None]
    zy = tl.load(offset + 2 * e + 1, mask=exists, other=0.0)[:, None]
    rest = tl.load(turn + e, mask=exists, other=0.0)[:, None]
    back = tl.load(steps + e, mask=exists, other=0)[:, None]
    return w, zx, zy, rest, back


@triton.jit
def orientation(i, step, back, count):
    """Return the orientation at the other vertex, ``step`` beside i, when its frame is ``back`` steps behind."""
    j = (i[None, :] + step - back) % count
    return tl.where(j < 0, j + count, j)
