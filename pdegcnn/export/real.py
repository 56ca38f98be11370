"""Graphs without complex numbers: pairs of real tensors, and matrix products for short Fourier transforms."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pdegcnn._typing import DType
from pdegcnn.export.rewriting import PlainInterpreter

aten = torch.ops.aten
FUNCTIONS = ("convection", "morphology", "morphology_pair")
"""Operators that stay in the graph, for :mod:`pdegcnn.export.onnx_operators` to write them as functions."""


class Pair(NamedTuple):
    """Real and imaginary part, two tensors or two numbers."""

    re: Any
    im: Any


class RealInterpreter(PlainInterpreter):
    """Runs a graph on pairs: linear operators that move entries act on both parts, the others are in ``RULES``."""

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Return constants, complex ones as pairs."""
        value = super().get_attr(target, args, kwargs)
        return Pair(value.real, value.imag) if isinstance(value, Tensor) and value.is_complex() else value

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Apply an operator to reals and pairs."""
        rule = RULES.get(target)
        if rule is not None:
            return rule(*args, **kwargs)
        if _is_function(target, args):
            return target(*args, **kwargs)
        if not any(isinstance(a, Pair) for a in _leaves((args, kwargs))):
            return super().call_function(target, args, kwargs)
        if target not in LINEAR:
            raise ValueError(f"model: expected operators on complex numbers that ONNX can hold, got {target}")
        kwargs = {k: v for k, v in kwargs.items() if k != "dtype"}
        parts = [target(*_part(args, i), **_part(kwargs, i)) for i in (0, 1)]
        if isinstance(parts[0], (list, tuple)):
            return [Pair(re, im) for re, im in zip(*parts)]
        return Pair(*parts)


def _is_function(target: Any, args: tuple[Any, ...]) -> bool:
    """Return whether an operator stays in the graph: one of ``FUNCTIONS`` on float32 tensors, as they compute."""
    if not isinstance(target, torch._ops.OpOverload) or target.namespace != "pdegcnn":
        return False
    return target._schema.name.partition("::")[2] in FUNCTIONS and args[0].dtype == torch.float32


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)) and not isinstance(value, Pair):
        return [leaf for part in value for leaf in _leaves(part)]
    return [leaf for part in value.values() for leaf in _leaves(part)] if isinstance(value, dict) else [value]


def _part(value: Any, index: int) -> Any:
    if isinstance(value, Pair):
        return value[index]
    if isinstance(value, (list, tuple)):
        return type(value)(_part(v, index) for v in value)
    return {k: _part(v, index) for k, v in value.items()} if isinstance(value, dict) else value


def _pair(value: Any) -> Pair:
    return value if isinstance(value, Pair) else Pair(value, torch.zeros_like(value))


def _product(operation: Callable[..., Tensor]) -> Callable[..., Any]:
    """Apply a bilinear operation to pairs."""

    def apply(a: Any, b: Any) -> Any:
        a, b = (Pair(x.real, x.imag) if isinstance(x, complex) else x for x in (a, b))
        if isinstance(a, Pair) and isinstance(b, Pair):
            re = operation(a.re, b.re) - operation(a.im, b.im)
            return Pair(re, operation(a.re, b.im) + operation(a.im, b.re))
        if isinstance(a, Pair):
            return Pair(operation(a.re, b), operation(a.im, b))
        return Pair(operation(a, b.re), operation(a, b.im)) if isinstance(b, Pair) else operation(a, b)

    return apply


def _einsum(equation: str, operands: Any, path: Any = None) -> Any:
    if len(operands) != 2:
        if any(isinstance(x, Pair) for x in operands):
            raise ValueError(f"model: expected products of two complex tensors, got einsum {equation!r}")
        return torch.einsum(equation, *operands)
    return _product(lambda a, b: torch.einsum(equation, a, b))(*operands)


def _waves(rows: int, columns: int, like: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return ``scale cos(2 pi j k / n)`` and the sine, ``[rows, columns]``, for the larger number n of both."""
    n = max(rows, columns)
    angle = np.outer(np.arange(rows), np.arange(columns)) % n * (2 * math.pi / n)
    cosine, sine = (torch.from_numpy(scale * f(angle)).to(like.dtype) for f in (np.cos, np.sin))
    return cosine.to(like.device), sine.to(like.device)


def _scale(norm: str | None, count: int, inverse: bool) -> float:
    whole = {None: inverse, "backward": inverse, "forward": not inverse}
    return count**-0.5 if norm == "ortho" else 1 / count if whole[norm] else 1.0


def _forward_real(x: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Pair:
    _whole(n, x, dim)
    x = x.movedim(dim, -1)
    count = x.shape[-1]
    c, s = _waves(count, count // 2 + 1, x, _scale(norm, count, False))
    return Pair((x @ c).movedim(-1, dim), (x @ -s).movedim(-1, dim))


def _complex(inverse: bool) -> Callable[..., Pair]:
    def transform(x: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Pair:
        re, im = (part.movedim(dim, -1) for part in _pair(x))
        _whole(n, re, -1)
        count = re.shape[-1]
        c, s = _waves(count, count, re, _scale(norm, count, inverse))
        s = s if inverse else -s
        return Pair((re @ c - im @ s).movedim(-1, dim), (re @ s + im @ c).movedim(-1, dim))

    return transform


def _inverse_real(x: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    re, im = (part.movedim(dim, -1) for part in _pair(x))
    count = 2 * (re.shape[-1] - 1) if n is None else n
    kept = min(re.shape[-1], count // 2 + 1)
    twice = torch.full((kept,), 2.0, dtype=re.dtype, device=re.device)
    twice[0] = 1.0
    if count % 2 == 0 and kept == count // 2 + 1:
        twice[-1] = 1.0
    c, s = _waves(kept, count, re, _scale(norm, count, True))
    return ((re[..., :kept] * twice) @ c - (im[..., :kept] * twice) @ s).movedim(-1, dim)


def _whole(n: int | None, x: Tensor, dim: int) -> None:
    if n is not None and n != x.shape[dim]:
        raise ValueError(f"model: expected Fourier transforms of the whole axis, got n={n} over {x.shape[dim]} samples")


def _new_zeros(x: Tensor | Pair, size: Sequence[int], dtype: DType = None, **options: Any) -> Tensor | Pair:
    """Return zeros in the precision of ``x``; ``dtype`` may be complex, because a pair stands for a complex number."""
    del dtype
    if not isinstance(x, Pair):
        return x.new_zeros(size, **options)
    return Pair(x.re.new_zeros(size), x.re.new_zeros(size))


RULES: dict[Any, Callable[..., Any]] = {
    aten.view_as_real.default: lambda x: torch.stack(_pair(x), dim=-1),
    aten.view_as_complex.default: lambda x: Pair(x[..., 0], x[..., 1]),
    aten.complex.default: Pair,
    aten.real.default: lambda x: _pair(x).re,
    aten.imag.default: lambda x: _pair(x).im,
    aten._conj.default: lambda x: Pair(x.re, -x.im) if isinstance(x, Pair) else x,
    aten.conj_physical.default: lambda x: Pair(x.re, -x.im) if isinstance(x, Pair) else x,
    aten.einsum.default: _einsum,
    aten.mul.Tensor: _product(torch.mul),
    aten.bmm.default: _product(torch.bmm),
    aten.mm.default: _product(torch.mm),
    aten.matmul.default: _product(torch.matmul),
    aten.fft_rfft.default: _forward_real,
    aten.fft_fft.default: _complex(False),
    aten.fft_ifft.default: _complex(True),
    aten.fft_irfft.default: _inverse_real,
    aten.new_zeros.default: _new_zeros,
}
"""Operators that know of complex numbers."""
LINEAR = {
    getattr(getattr(aten, name), overload)
    for name, overload in (
        *((n, "default") for n in ("view", "_unsafe_view", "reshape", "permute", "cat", "clone", "expand", "alias")),
        *((n, "default") for n in ("unsqueeze", "squeeze", "flip", "split_with_sizes", "pad", "constant_pad_nd")),
        *((n, "default") for n in ("stack", "index_select", "t", "_to_copy", "roll", "detach", "contiguous", "neg")),
        *((n, "default") for n in ("narrow", "resolve_conj")),
        *(("slice", "Tensor"), ("select", "int"), ("index", "Tensor"), ("add", "Tensor"), ("sub", "Tensor")),
        *(("transpose", "int"), ("squeeze", "dim"), ("squeeze", "dims"), ("sum", "dim_IntList"), ("unbind", "int")),
        *(("movedim", "int"), ("unflatten", "int"), ("flatten", "using_ints"), ("split", "Tensor")),
    )
}
LINEAR.add(operator.getitem)
"""Operators that act on real and imaginary part alike."""
