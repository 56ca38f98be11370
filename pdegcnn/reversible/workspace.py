"""Memory of a convolution on the CPU beyond its operands: blocked copies, or columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

PLAIN_BELOW = 16
"""Inputs of fewer channels than this are read as they are by oneDNN's forward convolution."""


def _bytes(t: Tensor) -> int:
    return t.numel() * t.element_size()


def _blocked(t: Tensor) -> int:
    """Return bytes of a copy whose channels are padded to whole vectors."""
    lanes = 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8
    return _bytes(t) // max(1, t.shape[1]) * (-(-t.shape[1] // lanes) * lanes)


def _slow(x: Tensor, weight: Tensor, bias: Tensor | None, settings: Sequence) -> bool:
    """Return whether torch unfolds the input into columns, because oneDNN does not serve this dtype or size."""

    def dummy(t: Tensor | None) -> Tensor | None:
        return None if t is None else torch.empty(1, dtype=t.dtype).expand(t.shape)

    kind = torch._C._select_conv_backend(dummy(x), dummy(weight), dummy(bias), *settings)  # pyright: ignore
    return kind.name.startswith("Slow")


def _image(x: Tensor, out: Tensor, transposed: bool, weight: Tensor) -> int:
    """Return the bytes needed to compute ``out`` from ``x``, including the result."""
    copy = 0 if not transposed and x.shape[1] < PLAIN_BELOW else _blocked(x)
    return _bytes(weight) + max(copy + _blocked(out), _blocked(out) + _bytes(out))


def convolution_peak(func: torch._ops.OpOverload, args: Sequence, out: Tensor | Sequence[Tensor | None]) -> int:
    """Return bytes at the peak of a convolution or of its backward pass, beyond its operands, results included.

    Measured on x86 processors with torch 2.13 for one to three axes; float64 and small volumes go by columns. Other
    operators give 0.
    """
    with _disable_current_modes():
        if func is torch.ops.aten.convolution.default and isinstance(out, Tensor):
            x, weight, bias, stride, padding, dilation, transposed, extra, groups = args
            if _slow(x, weight, bias, (stride, padding, dilation, transposed, extra, groups)):
                columns = math.prod(weight.shape[2:]) * _bytes(out if transposed else x)
                return _bytes(out) + (columns if math.prod(weight.shape[2:]) > 1 else 0)
            return _image(x, out, transposed, weight)
        if func is torch.ops.aten.convolution_backward.default:
            g, x, weight, _, stride, padding, dilation, transposed, extra, groups, wanted = args
            results = sum(_bytes(t) for t in out if t is not None)
            if _slow(x, weight, None, (stride, padding, dilation, transposed, extra, groups)):
                columns = _bytes(g) // g.shape[0] if transposed else _bytes(x)
                return results + math.prod(weight.shape[2:]) * columns
            first = _image(g, x, not transposed, weight) if wanted[0] else 0
            image, other = (g, x) if transposed else (x, g)
            copies = _blocked(other) + (_blocked(image) if image.shape[1] >= PLAIN_BELOW else 0)
            return max(first, results + max(copies, _bytes(weight)) if wanted[1] else results)
    return 0
