"""Kernels that are kept until something they depend on changes: for evaluation, not for training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pdegcnn import _checks


class KernelCache:
    """The last kernel and the parameters it was computed from.

    The parameters are compared by value, so every way to change them is seen (also ``parameter.data``, which no version
    counter notices); they are a few numbers per channel. Nothing is kept while gradients are recorded, while a graph is
    traced or captured, or inside ``torch.func`` transforms. Copies and pickles of a cache are empty.
    """

    def __init__(self) -> None:
        self._entry: tuple[object, list[Tensor], Tensor] | None = None

    def __reduce__(self) -> tuple[type[KernelCache], tuple[()]]:
        return KernelCache, ()

    def clear(self) -> None:
        """Forget the kernel."""
        self._entry = None

    def get(self, key: object, parameters: list[Tensor], build: Callable[[], Tensor]) -> Tensor:
        """Return the kernel that ``build`` gave for equal ``key`` and ``parameters``, else the one it gives now."""
        if torch.is_grad_enabled() or not all(_may_compare(p) for p in parameters):
            return build()
        entry = self._entry
        if entry is not None and entry[0] == key and _equal(entry[1], parameters):
            return entry[2]
        kernel = build()
        self._entry = key, [p.detach().clone() for p in parameters], kernel
        return kernel


def _may_compare(value: Tensor) -> bool:
    capturing = value.is_cuda and torch.cuda.is_current_stream_capturing()
    return _checks.has_values(value) and not capturing


def _equal(old: list[Tensor], new: list[Tensor]) -> bool:
    return len(old) == len(new) and all(
        a.device == b.device and a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(old, new)
    )
