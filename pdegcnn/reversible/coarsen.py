"""Invertible coarsenings: wavelet transforms, a learnable orthogonal one, and one that keeps regular fields."""

from __future__ import annotations

import math
from functools import reduce
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pdegcnn import _checks as check
from pdegcnn._derived import Derived, Table
from pdegcnn.ops.wavelet import analyse, haar, haar_back, interleave, synthesise
from pdegcnn.reversible.transition import Transition, round_to

CLOSE = 1e-9
"""Filters whose products are within this of those of exact ones are rounded exact ones."""


def _split_check(x: Tensor, dims: int) -> None:
    check.tensor("x", x)
    if x.ndim < dims + 2:
        raise ValueError(f"x: expected [B,C,...] with {dims} space axes last, got shape {tuple(x.shape)}")
    if any(size % 2 or size == 0 for size in x.shape[-dims:]):
        raise ValueError(
            f"x: expected even sizes on the last {dims} axes, got shape {tuple(x.shape)} (pad before the network)"
        )


def _merge_check(x: Tensor, dims: int) -> None:
    check.tensor("x", x)
    if x.ndim < dims + 2 or x.shape[1] % 2**dims:
        raise ValueError(f"x: expected a multiple of {2**dims} channels to refine, got shape {tuple(x.shape)}")


class Wavelet(Derived, Transition):
    """The periodic discrete wavelet transform, ``[B,C,*space]`` to ``[B,2^dims C,*space/2]``, and its inverse.

    Output channels are ordered by band first: the first C are low-pass. Bit ``i`` of the band number (the highest for
    the first space axis) says whether axis i is high-pass. ``"haar"`` is orthonormal and commutes with quarter turns up
    to a representation: with LH high-pass along the last axis, a turn maps LL->LL, LH->-HL, HL->LH, HH->-HH. The bands
    are therefore not four scalars, and a pointwise nonlinearity on them breaks the symmetry. ``bior1.*``, ``bior3.*``
    and their reverses behave alike but are not orthogonal. Daubechies filters, symlets, coiflets and ``bior2.*`` do not
    commute with turns. Sources: arXiv 1905.10484, section 3; Mallat, theorem 7.10.

    Args:
        name: ``"haar"``, or any discrete wavelet of PyWavelets (``"db2"``, ``"bior1.3"``) but ``"dmey"``, whose filters
            do not invert each other: extra ``wavelets``.
        dims: number of space axes, the last ones.
        device: where the filters live.

    Raises:
        ValueError: if there is no such wavelet, a size is odd or, in the inverse, the number of channels is not a
            multiple of ``2**dims``.
        ImportError: if PyWavelets is not installed and the wavelet is not Haar.

    Example:
        >>> import torch, pdegcnn as pg
        >>> haar, x = pg.reversible.Wavelet("haar"), torch.rand(1, 3, 8, 8)
        >>> haar(x).shape, torch.allclose(haar.inverse(haar(x)), x, atol=1e-6)
        (torch.Size([1, 12, 4, 4]), True)
    """

    analysis: Tensor
    synthesis: Tensor

    def __init__(self, name: str = "haar", dims: int = 2, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.name, self.dims = name, check.choice("dims", dims, (1, 2, 3))
        self._build(torch.empty(0, device=device))
        with torch.device("cpu"):
            self._same = torch.equal(*_filters(name))
        self.bit_exact = name in ("haar", "db1")
        self.headroom = 2.0 ** (dims / 2)  # the first shear of an axis adds tan(pi/8) = sqrt(2) - 1 of the other entry

    def _kept_in(self, dtype: torch.dtype) -> torch.dtype:
        return torch.float64

    def _tables(self) -> list[Table]:
        return [("analysis", None, lambda: _filters(self.name)[0]), ("synthesis", None, lambda: _filters(self.name)[1])]

    def extra_repr(self) -> str:
        """Name and number of axes."""
        return f"{self.name!r}, dims={self.dims}"

    def forward(self, x: Tensor) -> Tensor:
        """Split ``[B,C,*space]`` into ``[B,2^dims C,*space/2]``.

        Args:
            x: ``[B,C,*space]``, floating, with even sizes on the last ``dims`` axes.
        """
        _split_check(x, self.dims)
        for axis in range(self.dims, 0, -1):
            if self._shares_products():
                pair = haar(x, self.analysis[0, 0], -axis)
            else:
                pair = analyse(_centred(x, self.analysis, 1, -axis), self.analysis, -axis)
            x = self._stack(*pair, axis)
        return x

    @property
    def bands(self) -> int:  # pyright: ignore
        """The number of channels made of each channel."""
        return 2**self.dims

    @property
    def orthogonal(self) -> bool:  # pyright: ignore
        """Whether analysis and synthesis use the same filters."""
        return self._same

    def _shares_products(self) -> bool:
        """Return whether the shorter Haar transform can be used: the same bits, but differently rounded gradients."""
        return self.bit_exact and not torch.is_grad_enabled()

    def _stack(self, low: Tensor, high: Tensor, axis: int) -> Tensor:
        """Merge two of [B,done*C,...] to [B,done*2*C,...] with the newest band bit lowest among the bands."""
        done = 2 ** (self.dims - axis)
        return torch.stack((low.unflatten(1, (done, -1)), high.unflatten(1, (done, -1))), 2).flatten(1, 3)

    def _unstack(self, x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """Invert `_stack`, to two of [B,done,C,...]."""
        low, high = x.unflatten(1, (2 ** (self.dims - axis), 2, -1)).unbind(2)
        return low, high

    def inverse(self, x: Tensor) -> Tensor:
        """Merge ``[B,2^dims C,*space]`` into ``[B,C,2*space]``.

        Args:
            x: ``[B,2^dims C,*space]``, bands in the order of `forward`.
        """
        _merge_check(x, self.dims)
        for axis in range(1, self.dims + 1):
            if self._shares_products():
                x = haar_back(*self._unstack(x, axis), self.synthesis[0, 0], -axis).flatten(1, 2)
            else:
                x = synthesise(*self._unstack(x, axis), self.synthesis, -axis).flatten(1, 2)
                x = _centred(x, self.analysis, -1, -axis)
        return x

    def on_grid(self, x: Tensor, grid: float) -> Tensor:
        """Apply Haar as three shears per axis rounded to the grid: orthonormal up to rounding, invertible exactly.

        Args:
            x: ``[B,C,*space]``, entries multiples of ``grid``.
            grid: a power of two.
        """
        _split_check(x, self.dims)
        for axis in range(self.dims, 0, -1):
            even, odd = x.unflatten(-axis, (-1, 2)).unbind(-axis)
            x = self._stack(*_shears(even, odd, grid, -1.0), axis)
        return x

    def inverse_on_grid(self, x: Tensor, grid: float) -> Tensor:
        """Undo `on_grid` bit for bit.

        Args:
            x: what `on_grid` returned.
            grid: the same power of two.
        """
        _merge_check(x, self.dims)
        for axis in range(1, self.dims + 1):
            pair = _shears(*self._unstack(x, axis), grid, 1.0)
            x = interleave(*pair, -axis).flatten(1, 2)
        return x


def _centred(x: Tensor, filters: Tensor, sign: int, axis: int) -> Tensor:
    """Shift ``axis`` so that long filters lie around the pair of pixels that they give a coefficient to."""
    reach = filters.shape[-1] // 2 - 1
    return x.roll(sign * reach, axis) if reach else x


def _shears(a: Tensor, b: Tensor, grid: float, sign: float) -> tuple[Tensor, Tensor]:
    """Return (a+b)/sqrt2 and (a-b)/sqrt2 from (a, b) with ``sign=-1``, the inverse with ``sign=1``, on the grid."""
    p, u = math.tan(math.pi / 8), -math.sin(math.pi / 4)
    if sign < 0:
        a = a + round_to(p * b, grid)
        b = b + round_to(u * a, grid)
        a = a + round_to(p * b, grid)
        return a, -b + 0.0
    b = -b + 0.0
    a = a - round_to(p * b, grid)
    b = b - round_to(u * a, grid)
    return a - round_to(p * b, grid), b


def _filters(name: str) -> tuple[Tensor, Tensor]:
    """Return analysis and synthesis filters [2,L] in correlation form, float64."""
    if name in ("haar", "db1"):
        haar = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64) / math.sqrt(2)
        return haar, haar.clone()
    try:
        import pywt
    except ImportError as error:
        raise ImportError("wavelets other than 'haar' need PyWavelets: pip install pdegcnn[wavelets]") from error
    names: list[str] = pywt.wavelist(kind="discrete")  # pyright: ignore
    if name not in names:
        check.choice("name", name, [n for n in names if _inversion_error(pywt.Wavelet(n)) < CLOSE])  # pyright: ignore
    wavelet = pywt.Wavelet(name)  # pyright: ignore
    if (error := _inversion_error(wavelet)) >= CLOSE:
        raise ValueError(f"name: expected a wavelet whose filters invert each other, got {name!r} (error {error:.1g})")
    analysis = torch.tensor([wavelet.dec_lo[::-1], wavelet.dec_hi[::-1]], dtype=torch.float64)
    return analysis, torch.tensor([wavelet.rec_lo, wavelet.rec_hi], dtype=torch.float64)


def _inversion_error(wavelet: Any) -> float:
    """Return by how much the filters of PyWavelets fail to invert each other: a product of two, at any even shift."""
    error, centre = 0.0, wavelet.dec_len // 2 - 1
    for i, analysis in enumerate((wavelet.dec_lo, wavelet.dec_hi)):
        for j, synthesis in enumerate((wavelet.rec_lo, wavelet.rec_hi)):
            products = np.convolve(analysis, synthesis)[1::2]
            products[centre] -= i == j
            error = max(error, float(np.abs(products).max()))
    return error


class LearnableOrthogonal(Derived, Transition):
    r"""Space to depth, then a learnable orthogonal mixing of the ``2**dims`` pixels of a block.

    The mixing :math:`Q = H \exp(A - A^T)` is orthogonal for every A and is initially the Haar transform H. Layout and
    errors are as in `Wavelet`. Sources: arXiv 1905.10484, section 3, with a learned filter; Lezcano-Casado,
    Martinez-Rubio, arXiv 1901.08428, for the exponential.

    Args:
        dims: number of axes that are halved.
        device: where the parameters live.
        dtype: their dtype.
    """

    haar: Tensor

    def __init__(
        self, dims: int = 2, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.dims = check.choice("dims", dims, (1, 2, 3))
        self.skew = nn.Parameter(torch.empty(2**dims, 2**dims, device=device, dtype=dtype))
        self._build(self.skew)
        self.reset_parameters()

    def _tables(self) -> list[Table]:
        return [("haar", None, lambda: reduce(torch.kron, [_filters("haar")[0]] * self.dims))]

    def reset_parameters(self) -> None:
        """Set A to zero, so that the mixing is the Haar transform."""
        nn.init.zeros_(self.skew)

    def extra_repr(self) -> str:
        """Return the number of axes."""
        return f"dims={self.dims}"

    def matrix(self) -> Tensor:
        """Return the orthogonal matrix Q, ``[2^dims, 2^dims]``."""
        skew = self.skew.to(torch.promote_types(self.skew.dtype, torch.float32))  # gradients are NaN in half precision
        return (self.haar.to(skew.dtype) @ torch.linalg.matrix_exp(skew - skew.T)).to(self.skew.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Split ``[B,C,*space]`` into ``[B,2^dims C,*space/2]``.

        Args:
            x: ``[B,C,*space]``, floating, with even sizes on the last ``dims`` axes.

        Raises:
            ValueError: if a size is odd, or axes are missing.
            TypeError: if ``x`` is not a floating tensor.
        """
        _split_check(x, self.dims)
        pixels = torch.stack([x[_corner(x, c, self.dims)] for c in product((0, 1), repeat=self.dims)], 1)
        return torch.einsum("qp,bp...->bq...", self.matrix().to(x.dtype), pixels).flatten(1, 2)

    def inverse(self, x: Tensor) -> Tensor:
        """Merge ``[B,2^dims C,*space]`` into ``[B,C,2*space]``.

        Args:
            x: ``[B,2^dims C,*space]``, as `forward` returns.

        Raises:
            ValueError: if ``2**dims`` does not divide the number of channels, or axes are missing.
            TypeError: if ``x`` is not a floating tensor.
        """
        _merge_check(x, self.dims)
        pixels = torch.einsum("qp,bq...->bp...", self.matrix().to(x.dtype), x.unflatten(1, (2**self.dims, -1)))
        for axis in range(1, self.dims + 1):
            half = pixels.shape[1] // 2
            even_odd = pixels.unflatten(1, (half, 2))
            pixels = torch.stack((even_odd[:, :, 0], even_odd[:, :, 1]), -axis).flatten(-axis - 1, -axis)
        return pixels.squeeze(1)


def _corner(x: Tensor, corner: tuple[int, ...], dims: int) -> tuple:
    return (..., *(slice(c, None, 2) for c in corner))


class CyclicSpaceToDepth(Transition):
    """Space to depth for regular fields: ``[B,C,Or,H,W]`` to ``[B,4C,Or,H/2,W/2]``, again a regular field.

    The four pixels of a block are numbered around it, from x towards y like the orientations of `SE2`, and regrouped by
    (pixel - quarter turn of the orientation) mod 4. A quarter turn then permutes orientations only. The map is a
    permutation, so it is bit-exact and composes with every layer on SE(2).

    Args:
        orientations: number of orientations Or, a multiple of 4.

    Raises:
        ValueError: for odd sizes, other orientations, or, in the inverse, channels that 4 does not divide.
    """

    bit_exact, bands, orthogonal = True, 4, True
    PIXELS = ((0, 0), (0, 1), (1, 1), (1, 0))

    def __init__(self, orientations: int) -> None:
        super().__init__()
        self.orientations = check.positive_int("orientations", orientations)
        if orientations % 4:
            raise ValueError(f"orientations: expected a multiple of 4, got {orientations}")

    def extra_repr(self) -> str:
        """Return the number of orientations."""
        return f"orientations={self.orientations}"

    def _check(self, x: Tensor) -> None:
        check.tensor("x", x, 5, "[B,C,Or,H,W]")
        if x.shape[2] != self.orientations:
            raise ValueError(f"x: expected {self.orientations} orientations, got shape {tuple(x.shape)}")

    def forward(self, x: Tensor) -> Tensor:
        """Split ``[B,C,Or,H,W]`` into ``[B,4C,Or,H/2,W/2]``.

        Args:
            x: a regular field ``[B,C,Or,H,W]`` with even H and W.
        """
        self._check(x)
        _split_check(x, 2)
        pixels = torch.stack([x[..., i::2, j::2] for i, j in self.PIXELS], 1).unflatten(3, (4, -1))
        return torch.stack([pixels[:, :, :, q].roll(-q, 1) for q in range(4)], 3).flatten(3, 4).flatten(1, 2)

    def inverse(self, x: Tensor) -> Tensor:
        """Merge ``[B,4C,Or,H,W]`` into ``[B,C,Or,2H,2W]``.

        Args:
            x: a regular field ``[B,4C,Or,H,W]``, as `forward` returns.
        """
        self._check(x)
        _merge_check(x, 2)
        groups = x.unflatten(1, (4, -1)).unflatten(3, (4, -1))
        p = torch.stack([groups[:, :, :, q].roll(q, 1) for q in range(4)], 3).flatten(3, 4)
        rows = [torch.stack((p[:, a], p[:, b]), -1).flatten(-2) for a, b in ((0, 1), (3, 2))]
        return torch.stack(rows, -2).flatten(-3, -2)
