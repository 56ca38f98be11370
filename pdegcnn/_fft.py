"""Fourier transforms of signals whose batch may be empty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec

from torch import Tensor

P = ParamSpec("P")


def apply(transform: Callable[Concatenate[Tensor, P], Tensor], u: Tensor, *args: P.args, **options: P.kwargs) -> Tensor:
    """Return ``transform(u)``, one of ``torch.fft``; an empty tensor gives an empty result.

    FFT libraries refuse those. Its shape is that of the transform of one zero for each axis that is empty.
    """
    if u.numel():
        return transform(u, *args, **options)
    one = transform(u.new_zeros([max(size, 1) for size in u.shape]), *args, **options)
    empty = one[tuple(slice(None) if size else slice(0) for size in u.shape)]
    return empty + u.sum().real  # so that (zero) gradients are defined
