"""Types that modules share, and functions of torch whose own annotations are missing or incomplete.

The functions are torch's: only type checkers see the annotations here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Device = torch.device | str | None
DType = torch.dtype | None
Floats = NDArray[np.float64]
Reals = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
Complexes = NDArray[np.complex128]
Numbers = Tensor | ArrayLike


class Factory(TypedDict):
    """Device and dtype of the tensors of a module: its last two arguments."""

    device: Device
    dtype: DType


class _Fft(Protocol):
    """The part of ``torch.fft`` that the library uses."""

    def fft(self, input: Tensor, n: int | None = None, dim: int = -1) -> Tensor: ...
    def ifft(self, input: Tensor, n: int | None = None, dim: int = -1) -> Tensor: ...
    def rfft(self, input: Tensor, n: int | None = None, dim: int = -1) -> Tensor: ...
    def irfft(self, input: Tensor, n: int | None = None, dim: int = -1) -> Tensor: ...
    def fft2(self, input: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1)) -> Tensor: ...
    def ifft2(self, input: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1)) -> Tensor: ...
    def rfft2(self, input: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1)) -> Tensor: ...
    def irfft2(self, input: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1)) -> Tensor: ...
    def rfftn(self, input: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] | None = None) -> Tensor: ...
    def irfftn(self, input: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] | None = None) -> Tensor: ...
    def fftfreq(self, n: int, d: float = 1.0, *, device: Device = None, dtype: DType = None) -> Tensor: ...
    def rfftfreq(self, n: int, d: float = 1.0, *, device: Device = None, dtype: DType = None) -> Tensor: ...


class _Linalg(Protocol):
    """The part of ``torch.linalg`` that the library uses."""

    LinAlgError: type[RuntimeError]

    def cross(self, input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor: ...
    def det(self, A: Tensor) -> Tensor: ...
    def eigvalsh(self, A: Tensor) -> Tensor: ...
    def inv(self, A: Tensor) -> Tensor: ...
    def matrix_exp(self, A: Tensor) -> Tensor: ...
    def pinv(self, A: Tensor, *, rtol: float | None = None, hermitian: bool = False) -> Tensor: ...
    def solve(self, A: Tensor, B: Tensor, *, left: bool = True) -> Tensor: ...
    def vecdot(self, x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor: ...
    def vector_norm(self, x: Tensor, ord: float = 2, dim: int | None = None, keepdim: bool = False) -> Tensor: ...


if TYPE_CHECKING:
    fft: _Fft
    linalg: _Linalg

    class Function(torch.autograd.Function):
        """``torch.autograd.Function``."""

        apply: Callable[..., Any]
        vmap: Callable[..., Any]

    def block_diag(*tensors: Tensor) -> Tensor: ...
    def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]: ...
    def from_numpy(array: NDArray[Any]) -> Tensor: ...
    def sym_max(a: float, b: float) -> float: ...
    def tensordot(a: Tensor, b: Tensor, dims: int) -> Tensor: ...
else:
    fft, linalg, Function = torch.fft, torch.linalg, torch.autograd.Function
    block_diag, broadcast_tensors, tensordot = torch.block_diag, torch.broadcast_tensors, torch.tensordot
    from_numpy, sym_max = torch.from_numpy, torch.sym_max


def tolist(tensor: Tensor) -> list[Any]:
    """Return the entries of a tensor as numbers in nested lists."""
    return cast("list[Any]", tensor.tolist())  # pyright: ignore[reportUnknownMemberType] - torch says no more than list
