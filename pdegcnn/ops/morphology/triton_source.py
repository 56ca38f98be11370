"""Source text of the Triton kernels of the morphological convolution, one for each size of the kernel.

A thread holds a few rows of one column of the output, each in a separate variable, so that a value that was loaded
serves every row of taps that reads it. Taps are written out, without loops. Where winners are wanted, only the row of
the winning tap is kept on the way: one comparison for each row of taps. The signal comes in a frame that is
padded and as high as a whole number of strips, so that no load needs a mask.
"""

from __future__ import annotations

from pdegcnn.ops._strip_source import LANES, head, stores

MOST_TAPS = 121
"""Taps of one orientation that are written out; larger kernels are walked over in a loop."""

FILE = "pdegcnn/ops/morphology/triton_source.py"
SIZES = "batch, channels, orientations, stride, height, width, frame_height, frame_width"


def forward(size: tuple[int, int, int], rows: int, sign: int, keep: bool, dtype: str, periodic: bool = True) -> str:
    """Return a module with ``forward(frame, kernel, out, winner, sizes)``: values, rows of winning taps where ``keep``.

    Args:
        size: size of the kernel [KO,KH,KW].
        rows: rows of the output in a strip.
        sign: +1 for the maximum of differences, -1 for the minimum of sums.
        keep: whether to keep the row of each winner, ``a * KH + i`` (``KO * KH`` where no tap wins).
        dtype: type of the frame and the kernel, in which to compute: float16, float32 or float64.
        periodic: whether the first plane follows the last; if not, taps beyond them are passed over.
    """
    ko, kh, kw = size
    choose, worst, join, better = ("maximum", "-inf", "-", ">") if sign > 0 else ("minimum", "inf", "+", "<")
    text = f"{'Dilation' if sign > 0 else 'Erosion'} by {ko}x{kh}x{kw} taps, strips of {rows} rows, {dtype}."
    winner = "winner, " if keep else ""
    lines = [
        LANES.format(rows=rows) + "    o, planes = entry % orientations, orientations * stride",
        "    first = frame + (before + entry - o) * stride * area + (y * frame_width + x)",
        "    place = (before + entry) * (height * width) + (y * width + x)",
        f"    q = kernel + entry * {ko * kh * kw}",
    ]
    for r in range(rows):
        lines.append(f"    best{r} = tl.full([BLOCK], float('{worst}'), tl.{dtype})")
        if keep:
            lines.append(f"    row{r} = tl.full([BLOCK], {ko * kh}, tl.int32)")
    lines += [f"    turned = o * stride - {ko // 2}"]
    if periodic:
        lines += ["    turned = tl.where(turned < 0, turned + planes, turned)"] * (ko // 2)
        lines += [f"    for a in range({ko}):"]
    else:  # q and turned are those of the first tap inside
        lines += [
            "    inside = tl.maximum(-turned, 0)",
            f"    q, turned = q + inside * {kh * kw}, turned + inside",
            f"    for a in range(inside, tl.minimum({ko}, inside + planes - turned)):",
        ]
    lines += ["        p = first + turned * area"]
    lines += [f"        k{i}_{j} = tl.load(q + {i * kw + j})" for i in range(kh) for j in range(kw)]
    for r in range(rows + kh - 1):
        lines.append(f"        # row {r} of the frame")
        lines += [f"        v{j} = tl.load(p + {j})" for j in range(kw)]
        for i in range(kh):
            b = r - i
            if 0 <= b < rows:
                lines.append(f"        s = v0 {join} k{i}_0")
                lines += [f"        s = tl.{choose}(s, v{j} {join} k{i}_{j})" for j in range(1, kw)]
                if keep:
                    lines.append(f"        row{b} = tl.where(s {better} best{b}, a * {kh} + {i}, row{b})")
                lines.append(f"        best{b} = tl.{choose}(best{b}, s)")
        lines.append("        p += frame_width")
    lines += [
        f"        q += {kh * kw}",
        "        turned += 1",
    ]
    if periodic:
        lines.append("        turned = tl.where(turned < planes, turned, 0)")
    lines += stores(rows, {"out": "best", **({"winner": "row"} if keep else {})})
    return head(text, FILE, "forward", f"frame, kernel, out, {winner}{SIZES}") + "\n".join(lines) + "\n"


def backward_signal(size: tuple[int, int, int], rows: int, dtype: str) -> str:
    """Return a module with ``backward_signal(frame, winners, out, sizes)``, for the gradient of each source.

    It sums the gradients of the maxima that the source attains. ``frame`` holds gradients of outputs and ``winners``
    their winning taps, both padded; a gradient that was loaded serves every source that it may belong to.
    """
    ko, kh, kw = size
    text = f"Gradient in the signal for {ko}x{kh}x{kw} taps, strips of {rows} rows, {dtype}."
    lines = [
        LANES.format(rows=rows) + "    planes = orientations * stride",
        "    o = entry % planes",
        "    corner = (before + (entry - o) // stride) * area + (y * frame_width + x)",
        "    place = (before * stride + entry) * (height * width) + (y * width + x)",
    ]
    lines += [f"    total{r} = tl.zeros([BLOCK], tl.{dtype})" for r in range(rows)]
    lines += [
        f"    start = (o + {ko // 2}) % stride  # outputs are at every stride-th plane",
        f"    turned = (o + {ko // 2} - start) // stride % orientations",
        f"    for a in range(start, {ko}, stride):",
        "        p, q = frame + corner + turned * area, winners + corner + turned * area",
        f"        first = a * {kh * kw}",
    ]
    for r in range(rows + kh - 1):
        lines.append(f"        # row {r} of the frame")
        for j in range(kw):
            lines.append(f"        tap, g = tl.load(q + {j}).to(tl.int32) - first, tl.load(p + {j})")
            for b in range(max(0, r - kh + 1), min(rows, r + 1)):
                tap = (kh - 1 - (r - b)) * kw + kw - 1 - j
                lines.append(f"        total{b} = tl.where(tap == {tap}, total{b} + g, total{b})")
        lines += ["        p += frame_width", "        q += frame_width"]
    lines.append("        turned = tl.where(turned > 0, turned, orientations) - 1")
    lines += stores(rows, {"out": "total"})
    return head(text, FILE, "backward_signal", f"frame, winners, out, {SIZES}") + "\n".join(lines) + "\n"


def backward_kernel(size: tuple[int, int, int], dtype: str) -> str:
    """Return a module with ``backward_kernel(grad, winner, sums, ...)``: each kernel entry sums what it won.

    A program owns the taps of one orientation of one kernel, some signals of the batch (axis 1 of the grid, ``group``
    each) and a part of their outputs (axis 2, ``length`` each): N is the number of these parts.
    """
    ko, kh, kw = size
    text = f"Gradient in the kernel for {ko}x{kh}x{kw} taps, {dtype}."
    lines = [
        f"    entry, a = tl.program_id(0) // {ko}, tl.program_id(0) % {ko}",
        f"    first = a * {kh * kw}",
        "    left, below = tl.program_id(2) * length, tl.program_id(1) * group",
    ]
    lines += [f"    total{t} = tl.zeros([BLOCK], tl.{dtype})" for t in range(kh * kw)]
    lines += [
        "    for b in range(below, tl.minimum(below + group, batch)):",
        "        plane = (b * entries + entry).to(tl.int64) * pixels",
        "        for start in range(left, tl.minimum(left + length, pixels), BLOCK):",
        "            at = start + tl.arange(0, BLOCK)",
        "            inside = at < pixels",
        f"            tap = tl.load(winner + plane + at, mask=inside, other={ko * kh * kw}).to(tl.int32) - first",
        f"            g = tl.load(grad + plane + at, mask=inside, other=0.0).to(tl.{dtype})",
    ]
    lines += [f"            total{t} = tl.where(tap == {t}, total{t} + g, total{t})" for t in range(kh * kw)]
    lines += [
        "    part = tl.program_id(1) * tl.num_programs(2) + tl.program_id(2)",
        f"    there = sums + (part.to(tl.int64) * entries + entry) * {ko * kh * kw} + first",
    ]
    lines += [f"    tl.store(there + {t}, tl.sum(total{t}, 0))" for t in range(kh * kw)]
    arguments = "grad, winner, sums, batch, entries, pixels, group, length"
    return head(text, FILE, "backward_kernel", arguments) + "\n".join(lines) + "\n"
