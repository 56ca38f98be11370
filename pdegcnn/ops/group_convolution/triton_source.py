"""Source text of the Triton kernels of the group convolution, one for each size of the kernel.

As those of the morphological convolution: some rows of a column in registers, taps written out, a padded signal.
"""

from __future__ import annotations

from pdegcnn.ops._strip_source import LANES, head, stores

MOST_TAPS = 121
"""Taps of one orientation that are written out; larger kernels are walked over in a loop."""
FILE = "pdegcnn/ops/group_convolution/triton_source.py"
SIZES = "batch, channels, orientations, height, width, frame_height, frame_width"


def correlate(size: tuple[int, int, int], rows: int, forward: bool, dtype: str) -> str:
    """Return a module with ``correlate(frame, kernel, out, sizes)``: sums over taps (``forward``) or their transpose.

    Args:
        size: size of the kernel [KO,KH,KW].
        rows: rows of the output in a strip.
        forward: whether orientations and taps are read forward or backward.
        dtype: type of the frame and the kernel, in which to compute: float32 or float64.
    """
    ko, kh, kw = size
    text = f"Sums over {ko}x{kh}x{kw} taps{'' if forward else ', transposed'}, strips of {rows} rows, {dtype}."
    side = "-" if forward else "+"
    lines = [
        LANES.format(rows=rows) + "    o = entry % orientations",
        "    first = frame + (before + entry - o) * area + (y * frame_width + x)",
        "    place = (before + entry) * (height * width) + (y * width + x)",
        f"    turned = (o + {ko} * orientations {side} {ko // 2}) % orientations",
    ]
    lines += [f"    total{r} = tl.zeros([BLOCK], tl.{dtype})" for r in range(rows)]
    lines += [
        f"    for a in range({ko}):",
        "        p = first + turned * area",
        f"        q = kernel + ({'entry' if forward else '(entry - o + turned)'} * {ko} + a) * {kh * kw}",
    ]
    for i in range(kh):
        for j in range(kw):
            tap = i * kw + j if forward else (kh - 1 - i) * kw + kw - 1 - j
            lines.append(f"        k{i}_{j} = tl.load(q + {tap})")
    for r in range(rows + kh - 1):
        lines.append(f"        # row {r} of the frame")
        lines += [f"        v{j} = tl.load(p + {j})" for j in range(kw)]
        for b in range(max(0, r - kh + 1), min(rows, r + 1)):
            lines += [f"        total{b} += v{j} * k{r - b}_{j}" for j in range(kw)]
        lines.append("        p += frame_width")
    if forward:
        lines.append("        turned = tl.where(turned + 1 < orientations, turned + 1, 0)")
    else:
        lines.append("        turned = tl.where(turned > 0, turned, orientations) - 1")
    lines += stores(rows, {"out": "total"})
    return head(text, FILE, "correlate", f"frame, kernel, out, {SIZES}") + "\n".join(lines) + "\n"


def products(size: tuple[int, int, int], rows: int, dtype: str) -> str:
    """Return a module with ``products(frame, grad, sums, ...)``: sums of gradients times shifted signals.

    A program owns the taps of one orientation of one kernel (axis 0) and ``length`` pieces, each a strip of rows and a
    block of columns (axis 1); N is the number of these parts.
    """
    ko, kh, kw = size
    text = f"Sums of products for {ko}x{kh}x{kw} taps, strips of {rows} rows, {dtype}."
    lines = [
        f"    entry, a = tl.program_id(0) // {ko}, tl.program_id(0) % {ko}",
        "    o, area = entry % orientations, frame_height * frame_width",
        f"    turned = (o + a + {ko} * orientations - {ko // 2}) % orientations",
        f"    strips, blocks = tl.cdiv(height, {rows}), tl.cdiv(batch * width, BLOCK)",
        "    start = tl.program_id(1) * length",
    ]
    lines += [f"    total{t} = tl.zeros([BLOCK], tl.{dtype})" for t in range(kh * kw)]
    lines += [
        "    for piece in range(start, tl.minimum(start + length, strips * blocks)):",
        f"        y, lane = piece % strips * {rows}, piece // strips * BLOCK + tl.arange(0, BLOCK)",
        "        b, x = tl.minimum(lane // width, batch - 1), lane % width",
        "        plane = b.to(tl.int64) * (channels * orientations) + entry",
        "        p = frame + (plane - o + turned) * area + (y * frame_width + x)",
        "        q = grad + plane * (height * width) + (y * width + x)",
        "        left = tl.where(lane < batch * width, height - y, 0)",
    ]
    lines += [
        f"        g{r} = tl.load(q + {r} * width, mask=left > {r}, other=0.0).to(tl.{dtype})" for r in range(rows)
    ]
    for r in range(rows + kh - 1):
        lines.append(f"        # row {r} of the frame")
        lines += [f"        v{j} = tl.load(p + {j})" for j in range(kw)]
        for b in range(max(0, r - kh + 1), min(rows, r + 1)):
            lines += [f"        total{(r - b) * kw + j} += g{b} * v{j}" for j in range(kw)]
        lines.append("        p += frame_width")
    lines.append(
        f"    there = sums + (tl.program_id(1).to(tl.int64) * (channels * orientations) + entry) * {ko * kh * kw}"
    )
    lines += [f"    tl.store(there + a * {kh * kw} + {t}, tl.sum(total{t}, 0))" for t in range(kh * kw)]
    return head(text, FILE, "products", f"frame, grad, sums, {SIZES}, length") + "\n".join(lines) + "\n"
