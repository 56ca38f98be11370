"""Space with its translations: PDE-CNNs on volumes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._typing import linalg, tolist
from pdegcnn.spaces.base import MotionOptions
from pdegcnn.spaces.grid import GridSpace, dense, normalise_sizes, pixel_positions, sample_image, whole_steps
from pdegcnn.spaces.translations import Translations

if TYPE_CHECKING:
    from typing_extensions import Unpack

ORTHOGONAL = 1e-5
"""Greatest entry of ``R R^T - 1`` of a matrix that counts as orthogonal."""
WHOLE = 1e-9
"""Greatest distance of an entry from -1, 0 or 1 where a matrix counts as one that permutes axes."""


@dataclass(frozen=True)
class R3(Translations, GridSpace):
    r"""The space :math:`\R^3`, moved by translations; signals are volumes ``[B,C,D,H,W]``.

    Elements and vectors are ``(x, y, z)`` along columns, rows and slices, in the units of ``spacing``. Metrics use the
    same units, so an isotropic metric is isotropic for voxels of any shape. Layers commute with translations. They
    commute with rotations only if the metric is isotropic and there is no convection. Volumes need no lift. Source:
    *PDE-CNNs: Axiomatic Derivations* (arXiv 2403.15182).

    Args:
        spacing: size of a voxel along (slices, rows, columns), or one number for all three.

    Raises:
        ValueError: if a size is not positive and finite, or there are not one or three sizes.
        TypeError: if a size is not a number.

    Example:
        >>> import torch, pdegcnn as pg
        >>> pg.R3(spacing=(2.0, 0.5, 0.5)).grid_spacing  # of a step along x, y and z
        tensor([0.5000, 0.5000, 2.0000], dtype=torch.float64)
    """

    spacing: float | tuple[float, float, float] = 1.0
    dim: ClassVar[int] = 3
    orientations: ClassVar[int] = 1  # pyright: ignore[reportIncompatibleVariableOverride]
    is_periodic: ClassVar[bool] = False
    supported_terms: ClassVar[tuple[str, ...]] = (*GridSpace.supported_terms, "diffusion_shock")

    def __post_init__(self) -> None:
        given: object = self.spacing
        if isinstance(given, (tuple, list)) or (getattr(given, "ndim", 0) == 1 and hasattr(given, "tolist")):
            sizes = list(cast("Sequence[object]", given))
        else:
            sizes = [given] * 3
        if len(sizes) != 3:
            raise ValueError(f"spacing: expected a number or three of them (slices, rows, columns), got {given!r}")
        numbers = tuple(_checks.plain_number("spacing", size, 0.0, math.inf, open_low=True) for size in sizes)
        object.__setattr__(self, "spacing", numbers)

    def coarser(self, factor: float, size: Sequence[int] | None = None) -> R3:
        """Return the same space with voxels ``factor`` times as large along each axis; lengths keep their units.

        Args:
            factor: ratio of the sides of voxels, positive.
            size: samples of the coarser grid; with them the result is this space, because the ratio is not known.
        """
        if size is not None:
            return self
        number = _checks.plain_number("factor", factor, 0.0, math.inf, open_low=True)
        slices, rows, columns = self.grid_steps
        return R3((number * slices, number * rows, number * columns))

    @property
    def layout(self) -> str:
        """``[B,C,D,H,W]``."""
        return "[B,C,D,H,W]"

    @property
    def grid_steps(self) -> tuple[float, float, float]:
        """The size of a voxel along slices, rows and columns."""
        return cast("tuple[float, float, float]", self.spacing)

    @property
    def grid_spacing(self) -> Tensor:
        """The size of a voxel along x, y and z."""
        return torch.tensor(self.grid_steps[::-1], dtype=torch.float64, device="cpu")

    @property
    def metric_scale(self) -> Tensor:
        """The side of a cube with the volume of a voxel, along every axis."""
        return torch.full((3,), math.prod(self.grid_steps) ** (1 / 3), dtype=torch.float64, device="cpu")

    def to_grid(self, u: Tensor) -> Tensor:
        """Return the signal itself.

        Args:
            u: volumes ``[B,C,D,H,W]``.
        """
        return u

    def from_grid(self, u: Tensor) -> Tensor:
        """Return the signal itself.

        Args:
            u: volumes ``[B,C,D,H,W]``.
        """
        return u

    def kernel_sizes(self, kernel_size: int | Sequence[int]) -> tuple[int, int, int]:
        """Return the numbers of taps ``(KD, KH, KW)``.

        Args:
            kernel_size: one odd number of voxels, or ``(KD, KH, KW)``.

        Raises:
            TypeError: if it is neither an int nor a sequence.
            ValueError: for a number that is not positive and odd, or a sequence of other than three numbers.
        """
        kd, kh, kw = normalise_sizes(kernel_size, 3, "(KD, KH, KW)")
        return kd, kh, kw

    def taps_at(self, steps: Tensor, image: Tensor) -> Tensor:
        """Return the offset of the kernel's centre from each tap, ``[1,KD,KH,KW,3]``, in the units of ``spacing``.

        Args:
            steps: slices of the taps from the centre, ``[KD]``, in voxels.
            image: (x, y) of the taps from the centre, ``[KH,KW,2]`` or ``[KD,KH,KW,2]``, in voxels.
        """
        depth, row, column = self.grid_steps
        x, y = image.unbind(-1)
        z = steps[:, None, None].expand(len(steps), *x.shape[-2:])
        return -torch.stack((x.expand_as(z) * column, y.expand_as(z) * row, z * depth), dim=-1)[None]

    def chord(self, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the slices ``[C]``, rows and columns ``[C,1]``, in voxels, that vectors span.

        Args:
            c: vectors (x, y, z), ``[C,3]``, in the units of ``spacing``.
        """
        x, y, z = (c / self.grid_spacing.to(c)).unbind(-1)
        return z, y[:, None], x[:, None]

    def transform(self, signal: Tensor, **motion: Unpack[MotionOptions]) -> Tensor:
        """Move volumes ``[B,C,D,H,W]``; leave invariants of rank two at most unchanged, ``[B,K]``.

        The 48 symmetries of the cube are exact if the axes that they exchange have the same spacing. Other matrices use
        cubic splines, without gradient.

        Args:
            signal: volumes or invariants.
            motion: ``rotation=`` an orthogonal matrix ``[3,3]`` that acts on (x, y, z) about the centre and may
                reflect; or ``angle=`` degrees about z from +x to +y, or about ``axis=(x, y, z)``; or
                ``shift=(slices, rows, columns)`` in whole voxels, periodically.
        """
        dense("signal", signal)
        if signal.ndim > 2 and signal.ndim != 5:
            raise ValueError(f"signal: expected {self.layout} or invariants [B,K], got shape {tuple(signal.shape)}")
        if "shift" in motion and len(motion) == 1:
            steps = whole_steps(motion["shift"], ("slices", "rows", "columns"))
            return signal.roll(steps, dims=(-3, -2, -1)) if signal.ndim == 5 else signal
        matrix = _matrix_of(motion)
        if signal.ndim != 5:
            return signal
        axes = self._swapped_axes(matrix, signal)
        if axes is not None:
            order, mirrored = axes
            return signal.permute(0, 1, *(2 + axis for axis in order)).flip([2 + axis for axis in mirrored])
        size = self.grid_spacing
        points = pixel_positions(signal.shape[-3:]) * size
        return sample_image(signal, points @ matrix / size)  # R^-1 x, as rows

    def comparison_weights(self, signal: Tensor, **motion: Unpack[MotionOptions]) -> Tensor:
        """Return one inside the ball that rotations keep in the volume, zero outside; all ones for exact motions.

        Args:
            signal: the signal that is moved, ``[B,C,D,H,W]`` or an invariant.
            motion: as in :meth:`transform`.

        Returns:
            Weights ``[D,H,W]``; without axes for exact motions and invariants.
        """
        exact = signal.ndim != 5 or set(motion) == {"shift"} or self._swapped_axes(_matrix_of(motion), signal)
        if exact:
            return torch.ones((), dtype=signal.dtype, device=signal.device)
        points = pixel_positions(signal.shape[-3:]) * self.grid_spacing
        radius = min((n - 1) / 2 * step for n, step in zip(signal.shape[-3:], self.grid_steps))
        return ((points**2).sum(-1) <= radius**2).to(signal)

    def _swapped_axes(self, matrix: Tensor, signal: Tensor) -> tuple[list[int], list[int]] | None:
        """Return the source of each axis of the moved volume and which are mirrored; None if voxels do not match."""
        whole = matrix.round()
        if not bool(((matrix - whole).abs() <= WHOLE).all()):
            return None
        by_axis = whole.flip(0, 1)  # (z, y, x), as axes are stored
        order = [int(i) for i in by_axis.abs().argmax(1)]
        sampling = list(zip(signal.shape[-3:], self.grid_steps))
        if any(sampling[i] != sampling[order[i]] for i in range(3)):
            return None
        return order, [i for i in range(3) if by_axis[i, order[i]] < 0]


def _matrix_of(motion: MotionOptions) -> Tensor:
    """Return the orthogonal matrix, float64, that a motion names."""
    if "rotation" in motion and len(motion) == 1:
        matrix = _checks.real_numbers("rotation", motion["rotation"], torch.float64)
        if matrix.shape != (3, 3):
            raise ValueError(f"rotation: expected an orthogonal matrix [3,3], got shape {tuple(matrix.shape)}")
        error = float((matrix @ matrix.mT - torch.eye(3, dtype=torch.float64, device="cpu")).abs().max())
        if not error < ORTHOGONAL:
            raise ValueError(f"rotation: expected an orthogonal matrix, got one with R R^T - 1 of {error:.2g}")
        return matrix
    if "angle" in motion and set(motion) <= {"angle", "axis"}:
        angle = _checks.plain_number("angle", motion["angle"], -math.inf, math.inf)
        return _turn_about(motion.get("axis", (0.0, 0.0, 1.0)), angle)
    raise ValueError(f"motion: expected rotation=R, angle=degrees or shift=(slices, rows, columns), got {motion}")


def _turn_about(axis: object, angle: float) -> Tensor:
    """Return the turn by ``angle`` degrees about an axis (Rodrigues), with entries exact for whole quarters."""
    line = _checks.real_numbers("axis", axis, torch.float64)
    if line.shape != (3,) or not bool(line.isfinite().all()) or not bool(line.any()):
        raise ValueError(f"axis: expected a direction (x, y, z), got {axis!r}")
    line = line / linalg.vector_norm(line)
    x, y, z = tolist(line)
    quarters = angle / 90
    if quarters == round(quarters):
        cosine, sine = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[round(quarters) % 4]
    else:
        cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    cross = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]], dtype=torch.float64, device="cpu")
    return (
        cosine * torch.eye(3, dtype=torch.float64, device="cpu") + sine * cross + (1 - cosine) * torch.outer(line, line)
    )
