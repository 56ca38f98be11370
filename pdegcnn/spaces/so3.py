"""Rotations of R3: signals over positions and directions on the sphere."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from pdegcnn import _checks, sphere
from pdegcnn._typing import Factory
from pdegcnn.spaces.base import MotionOptions
from pdegcnn.spaces.rotations import RotationSpace, grid_turn
from pdegcnn.spaces.s2 import check_base, check_grid, point_spacing, turn_base

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True)
class SO3(RotationSpace):
    r"""The rotation group SO(3); signals ``[B,C,Or,*grid.shape]`` over grid points and tangent directions.

    The sample (k, p) belongs to the rotation :math:`R = R_z(\varphi) R_y(\theta) R_z(2 \pi k / Or)`. Its third column
    is the point p, its first column a direction at p. The left-invariant frame is (tilt, tilt, spin), see
    :class:`~pdegcnn.spaces.RotationSpace`. Weights of metrics and vectors are per radian.

    Source: Gerken et al., *Geometric deep learning and equivariant neural networks* (arXiv 2105.13926), section 4.

    Args:
        grid: points of the sphere, for example ``SphereGrid.gauss_legendre(32)``.
        orientations: number Or of sampled directions, at least one; harmonics up to ``(Or - 1) // 2`` are resolved.

    Example:
        >>> import torch, pdegcnn as pg
        >>> space = pg.SO3(pg.sphere.SphereGrid.gauss_legendre(8), orientations=4)
        >>> space.check_signal("u", torch.zeros(2, 3, 4, 8, 16)).shape
        torch.Size([2, 3, 4, 8, 16])
    """

    grid: sphere.SphereGrid
    orientations: int = 16
    has_orientations: ClassVar[bool] = True
    supported_terms: ClassVar[tuple[str, ...]] = (
        *RotationSpace.supported_terms,
        "convection_diffusion",
        "diffusion_shock",
    )

    def __post_init__(self) -> None:
        check_grid(self.grid)
        _checks.positive_int("orientations", self.orientations)

    def over(self, grid: sphere.SphereGrid) -> SO3:
        """Return the same space, with the same number of orientations, on another grid.

        Args:
            grid: points of the sphere.

        Raises:
            TypeError: if ``grid`` is not a :class:`pdegcnn.sphere.SphereGrid`.
        """
        return replace(self, grid=grid)

    @property
    def layout(self) -> str:
        """``[B,C,Or,nlat,nlon]``, or ``[B,C,Or,P]`` on grids without equal rings."""
        return "[B,C,Or,nlat,nlon]" if len(self.grid.shape) == 2 else "[B,C,Or,P]"

    @property
    def grid_spacing(self) -> Tensor:
        """The grid's spacing for both tilts, and the step of the fibre, in radians."""
        spacing = point_spacing(self.grid)
        return torch.tensor([spacing, spacing, 2 * math.pi / self.orientations], dtype=torch.float64, device="cpu")

    @property
    def metric_scale(self) -> Tensor:
        """The grid's spacing for both tilts, and one radian of spin (as on SE(2))."""
        spacing = point_spacing(self.grid)
        return torch.tensor([spacing, spacing, 1.0], dtype=torch.float64, device="cpu")

    def check_signal(self, name: str, u: Tensor) -> Tensor:
        """Return ``u`` if its last axes are the fibre and those of the grid, else raise.

        Args:
            name: what error messages call the signal.
            u: anything.

        Raises:
            TypeError: if ``u`` is not a floating tensor.
            ValueError: if its shape does not fit.
        """
        super().check_signal(name, u)
        check_base(name, u, self.grid)
        if u.shape[2] != self.orientations:
            raise ValueError(
                f"{name}: expected {self.orientations} orientations on axis 2 of {self.layout}, "
                f"got shape {tuple(u.shape)}"
            )
        return u

    def transform(self, signal: Tensor, **motion: Unpack[MotionOptions]) -> Tensor:
        """Rotate a signal to :math:`f(Q^T R)`; leave invariants ``[B,K]`` unchanged. Without gradient.

        Rotations are exact for band-limited signals. Rotations about the pole that map the grid to itself permute
        samples, so they are exact for all signals (unless ``exact=False``). All others drop the Nyquist mode of an even
        fibre, because its sign is undetermined.

        Args:
            signal: signals on this space, signals ``[B,C,*grid.shape]`` on the sphere, or invariants.
            motion: ``rotation=`` the matrix Q ``[3,3]``.
        """
        rotation, exact = self._rotation_of(motion), bool(motion.get("exact", True))
        if _checks.tensor("signal", signal).ndim < 3 + len(self.grid.shape):
            return turn_base(signal, rotation, self.grid, exact)
        self.check_signal("signal", signal)
        steps = grid_turn(rotation, self.grid) if exact else None
        if steps is not None:
            return signal.roll(steps, dims=-1)
        with torch.no_grad():
            kind: Factory = {"device": signal.device, "dtype": torch.float64}
            columns = sphere.SO3FFT(self.grid, self.orientations, **kind)(signal.double())
            real = sphere.rotate_coefficients(to_real_fibre(columns).movedim(-1, 0), rotation.to(**kind))
            turned = from_real_fibre(real.movedim(0, -1))
            return sphere.InverseSO3FFT(self.grid, self.orientations, **kind)(turned).to(signal.dtype)

    def __str__(self) -> str:
        return f"SO3({self.grid.name}{self.grid.shape}, orientations={self.orientations})"


def to_real_fibre(columns: Tensor) -> Tensor:
    """Return columns n = -N..N of `SO3FFT` in a unitary basis where each has the symmetry of a real spherical signal.

    Column N + n holds ``(W_n + (-1)^n W_-n)/sqrt 2`` and column N - n ``(W_n - (-1)^n W_-n)/(i sqrt 2)``, n > 0.
    """
    most = columns.shape[-1] // 2
    sign = 1 - 2 * (torch.arange(1, most + 1, device=columns.device) % 2)
    positive, negative = columns[..., most + 1 :], columns[..., :most].flip(-1) * sign
    even, odd = (positive + negative) * math.sqrt(0.5), (positive - negative) * (-1j * math.sqrt(0.5))
    return torch.cat((odd.flip(-1), columns[..., most : most + 1], even), dim=-1)


def from_real_fibre(columns: Tensor) -> Tensor:
    """Return the inverse of :func:`to_real_fibre`."""
    most = columns.shape[-1] // 2
    sign = 1 - 2 * (torch.arange(1, most + 1, device=columns.device) % 2)
    even, odd = columns[..., most + 1 :], 1j * columns[..., :most].flip(-1)
    positive, negative = (even + odd) * math.sqrt(0.5), (even - odd) * sign * math.sqrt(0.5)
    return torch.cat((negative.flip(-1), columns[..., most : most + 1], positive), dim=-1)
