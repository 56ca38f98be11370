"""Carry signals to a finer or coarser grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from pdegcnn import _checks, functional
from pdegcnn._typing import Device, DType
from pdegcnn.pde.sphere_oversample import transforms
from pdegcnn.spaces import RotationSpace


class Resample(nn.Module):
    """Resize the last axes of ``[..., H, W]`` to ``size``; see :func:`pdegcnn.functional.resample`.

    Args:
        size: height and width of the result, or one number for both; three numbers for volumes ``[..., D, H, W]``.
        filter: ``"linear"`` or ``"lanczos"``, as in the function.
    """

    def __init__(self, size: int | tuple[int, ...], filter: str = "linear") -> None:
        super().__init__()
        self.size, self.filter = size, _checks.choice("filter", filter, ("linear", "lanczos"))
        _check_size(size)

    def forward(self, u: Tensor) -> Tensor:
        """Resize ``u``."""
        return functional.resample(u, self.size, self.filter)

    def extra_repr(self) -> str:
        """Size and filter."""
        return f"{self.size}, filter={self.filter!r}"


def _check_size(size: object) -> None:
    """Raise unless ``size`` is a positive int, or two or three of them."""
    sizes: Sequence[object] = (size,) if isinstance(size, int) else cast("Sequence[object]", size)
    if not isinstance(sizes, (tuple, list)) or not isinstance(size, int) and len(sizes) not in (2, 3):
        raise TypeError(f"size: expected a positive int, or two or three of them, got {size!r}")
    for n in sizes:
        _checks.positive_int("size", n)


class SpectralResample(nn.Module):
    """Carry signals to another grid by their coefficients: truncation shrinks, zero padding enlarges.

    Spectral pooling and unpooling commute with rotations exactly (Rippel et al. 2015, on the sphere).

    Args:
        source: S2 or SO(3) space of the input.
        target: space of the same kind and, for SO(3), the same fibre.
        device: where the tables live.
        dtype: dtype of the signals.
    """

    def __init__(
        self, source: RotationSpace, target: RotationSpace, *, device: Device = None, dtype: DType = None
    ) -> None:
        super().__init__()
        _checks.kind("source", source, RotationSpace, "S2 or SO3")
        if type(source) is not type(target) or source.orientations != target.orientations:
            raise ValueError(f"target: expected a space like {source} over another grid, got {target}")
        self.source, self.target = source, target
        lmax = min(source.grid.band, target.grid.band)
        self.analysis, self.synthesis = transforms(source, target, lmax=lmax, device=device, dtype=dtype)

    def forward(self, u: Tensor) -> Tensor:
        """Resample ``u``."""
        self.source.check_signal("u", u)
        return self.synthesis(self.analysis(u)).to(u.dtype)

    def extra_repr(self) -> str:
        """Both spaces."""
        return f"{self.source} -> {self.target}"
