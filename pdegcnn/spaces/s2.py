"""The sphere with its rotations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from pdegcnn import _checks, sphere
from pdegcnn._typing import Factory
from pdegcnn.spaces.base import MotionOptions
from pdegcnn.spaces.rotations import RotationSpace, grid_turn

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True)
class S2(RotationSpace):
    """The sphere :math:`S^2 = SO(3)/SO(2)`; signals ``[B,C,*grid.shape]`` over the points of a grid.

    The invariant metric is unique up to scale, so metrics have one weight, the cost of one radian. An invariant vector
    field does not exist, because a vector at the pole would have to equal all its rotated copies. The space therefore
    supports diffusion, dilation and erosion, but not convection; lift to SO(3) for that.

    Source: Gerken et al., *Geometric deep learning and equivariant neural networks* (arXiv 2105.13926), section 4.

    Args:
        grid: the points, for example ``SphereGrid.gauss_legendre(64)``.

    Example:
        >>> import torch, pdegcnn as pg
        >>> sphere = pg.S2(pg.sphere.SphereGrid.gauss_legendre(8))
        >>> sphere.layout, sphere.unsupported_terms["convection"][:31]
        ('[B,C,nlat,nlon]', 'no vector field on the sphere i')
    """

    grid: sphere.SphereGrid
    supported_terms: ClassVar[tuple[str, ...]] = ("diffusion", "dilation", "erosion", "diffusion_shock")
    unsupported_terms: ClassVar[dict[str, str]] = dict.fromkeys(
        ("convection", "convection_diffusion"),
        "no vector field on the sphere is invariant under rotations; lift to pdegcnn.SO3 for convection",
    )

    def __post_init__(self) -> None:
        check_grid(self.grid)

    def over(self, grid: sphere.SphereGrid) -> S2:
        """Return the same space on another grid.

        Args:
            grid: the points.

        Raises:
            TypeError: if ``grid`` is not a :class:`pdegcnn.sphere.SphereGrid`.
        """
        return replace(self, grid=grid)

    @property
    def layout(self) -> str:
        """``[B,C,nlat,nlon]``, or ``[B,C,P]`` on grids without equal rings."""
        return "[B,C,nlat,nlon]" if len(self.grid.shape) == 2 else "[B,C,P]"

    @property
    def metric_dim(self) -> int:
        """One, because the metric has a single weight."""
        return 1

    @property
    def metric_scale(self) -> Tensor:
        """The grid's spacing in radians."""
        return torch.tensor([point_spacing(self.grid)], dtype=torch.float64, device="cpu")

    def check_signal(self, name: str, u: Tensor) -> Tensor:
        """Return ``u`` if its last axes are those of the grid, else raise.

        Args:
            name: what error messages call the signal.
            u: anything.

        Raises:
            TypeError: if ``u`` is not a floating tensor.
            ValueError: if its shape does not fit.
        """
        super().check_signal(name, u)
        check_base(name, u, self.grid)
        return u

    def transform(self, signal: Tensor, **motion: Unpack[MotionOptions]) -> Tensor:
        """Rotate signals ``[B,C,*grid.shape]`` to :math:`f(R^T p)`; leave invariants ``[B,K]`` unchanged.

        Rotations are exact for signals band-limited to the grid's band. Rotations about the pole that map the grid to
        itself permute samples, so they are exact for all signals (unless ``exact=False``). Without gradient.

        Args:
            signal: signals or invariants.
            motion: ``rotation=`` the matrix R ``[3,3]``.
        """
        return turn_base(signal, self._rotation_of(motion), self.grid, bool(motion.get("exact", True)))

    def __str__(self) -> str:
        return f"S2({self.grid.name}{self.grid.shape})"


def check_grid(grid: object) -> None:
    """Raise ``TypeError`` unless ``grid`` is a grid on the sphere."""
    if not isinstance(grid, sphere.SphereGrid):
        raise TypeError(f"grid: expected a SphereGrid such as gauss_legendre(64), got {type(grid).__name__}")


def check_base(name: str, u: Tensor, grid: sphere.SphereGrid) -> None:
    """Raise ``ValueError`` unless the last axes of ``u`` are those of the grid."""
    base = len(grid.shape)
    if tuple(u.shape[-base:]) != grid.shape:
        raise ValueError(f"{name}: expected last axes {grid.shape} of the grid {grid.name}, got shape {tuple(u.shape)}")


def point_spacing(grid: sphere.SphereGrid) -> float:
    """Return the typical distance of neighbours in radians: of rings, or the square root of a point's area."""
    return torch.pi / grid.shape[0] if len(grid.shape) == 2 else float((4 * torch.pi / grid.shape[0]) ** 0.5)


def turn_base(signal: Tensor, rotation: Tensor, grid: sphere.SphereGrid, exact: bool = True) -> Tensor:
    """Return ``f(R^T p)`` of signals ``[..., *grid.shape]`` by exact transforms; invariants ``[B,K]`` stay."""
    if _checks.tensor("signal", signal).ndim < 2 + len(grid.shape):
        return signal
    check_base("signal", signal, grid)
    steps = grid_turn(rotation, grid) if exact else None
    if steps is not None:
        return signal.roll(steps, dims=-1)
    with torch.no_grad():
        kind: Factory = {"device": signal.device, "dtype": torch.float64}
        coefficients = sphere.RealSHT(grid, **kind)(signal.double())
        turned = sphere.rotate_coefficients(coefficients, rotation.to(**kind))
        return sphere.InverseRealSHT(grid, **kind)(turned).to(signal.dtype)
