"""Base classes of spaces sampled on a regular grid: for images and volumes, and for the plane and SE(2)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from pdegcnn import _checks, _fft
from pdegcnn._dtypes import widen
from pdegcnn._typing import Factory, Floats, fft, from_numpy
from pdegcnn.spaces.base import HomogeneousSpace, MotionOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack


def rotation(angle: Tensor, v: Tensor) -> Tensor:
    """Turn vectors ``v [..., 2]`` by ``angle [...]`` radians, from +x towards +y."""
    c, s = torch.cos(angle), torch.sin(angle)
    x, y = v[..., 0], v[..., 1]
    return torch.stack((c * x - s * y, s * x + c * y), dim=-1)


class GridSpace(HomogeneousSpace):
    """A space sampled on a regular grid of three axes, ``[B,C,P,H,W]``.

    The first axis P holds the orientations of images (one on the plane) or the slices of volumes. x runs along the last
    axis, y along the second-last (downwards). One solver serves all these spaces.
    """

    is_periodic: ClassVar[bool]
    """Whether the first axis is a circle; if not, outputs of all its samples share one kernel."""

    @property
    def grid_steps(self) -> tuple[float, float, float]:
        """The length of a step along the first axis, the rows and the columns, in the units of the space."""
        return 1.0, 1.0, 1.0

    def coarser(self, factor: float, size: Sequence[int] | None = None) -> GridSpace:
        """Return the space with steps ``factor`` times as long; a space measured in steps returns itself.

        Args:
            factor: ratio of the lengths of steps, positive.
            size: samples of the coarser grid along its axes, in place of ``factor``.
        """
        return self

    @abstractmethod
    def to_grid(self, u: Tensor) -> Tensor:
        """View a signal as ``[B,C,P,H,W]``.

        Args:
            u: a signal laid out as ``layout`` says.
        """

    @abstractmethod
    def from_grid(self, u: Tensor) -> Tensor:
        """View ``[B,C,P,H,W]`` as a signal: the inverse of :meth:`to_grid`.

        Args:
            u: ``[B,C,P,H,W]``.
        """

    @abstractmethod
    def half_angle(self, g: Tensor) -> Tensor:
        """Return half-angle coordinates of elements ``[..., dim]``.

        Reflections that keep the distance change only signs of these coordinates.

        Args:
            g: in the coordinates of the space.
        """

    def half_angle_of_path(self, g: Tensor) -> Tensor:
        """Return half-angle coordinates of the path to an element that turns by all of its angle, which may be any.

        Kernels of diffusion also follow the path the other way round the circle. Without orientations this is
        :meth:`half_angle`.

        Args:
            g: in the coordinates of the space.
        """
        return self.half_angle(g)

    def log_of_path(self, g: Tensor) -> Tensor:
        """Return logarithmic coordinates of the same path.

        Args:
            g: in the coordinates of the space.
        """
        return self.log(g)

    @abstractmethod
    def kernel_sizes(self, kernel_size: int | Sequence[int]) -> tuple[int, int, int]:
        """Return the numbers of taps ``(KP, KH, KW)``; raise ``ValueError`` unless all are odd.

        Args:
            kernel_size: one odd number for all axes, or one for each axis of the space.
        """

    def taps(self, sizes: tuple[int, int, int], like: Tensor) -> Tensor:
        """Return the element :math:`h^{-1} g` from each tap h to the kernel's centre g, ``[Or,KP,KH,KW,dim]``.

        Args:
            sizes: numbers of taps ``(KP, KH, KW)``.
            like: tensor that sets device and dtype.
        """
        return self.taps_at(*self.offsets(sizes, like)).to(like.dtype)

    @abstractmethod
    def taps_at(self, steps: Tensor, image: Tensor) -> Tensor:
        """Return :math:`h^{-1} g` for taps at ``steps [KP]`` of the first axis and (x, y) = ``image [KH,KW,2]``.

        Positions are in grid steps, float64. They may differ along the first axis, ``[KP,KH,KW,2]``.

        Args:
            steps: positions along the first axis.
            image: positions in the image.
        """

    def tap_weights(self, sizes: tuple[int, int, int], like: Tensor) -> Tensor:
        """Return the share of a grid cell that each tap stands for, ``[KP,1,1]``.

        Args:
            sizes: numbers of taps ``(KP, KH, KW)``.
            like: tensor that sets device and dtype.
        """
        return torch.ones(1, 1, 1, dtype=like.dtype, device=like.device)

    def offsets(self, sizes: tuple[int, int, int], like: Tensor) -> tuple[Tensor, Tensor]:
        """Return positions of taps: steps of the first axis ``[KP]``, image offsets (x, y) ``[KH,KW,2]``; float64.

        Args:
            sizes: numbers of taps ``(KP, KH, KW)``.
            like: tensor that sets the device.
        """
        kind: Factory = {"device": like.device, "dtype": torch.float64}
        steps, rows, columns = [torch.arange(n, **kind) - n // 2 for n in sizes]
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        return steps, torch.stack((x, y), dim=-1)

    @abstractmethod
    def chord(self, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the grid steps from each element g to g exp(c): first axis ``[C]``, rows and columns ``[C,Or]``.

        Args:
            c: vectors in the frame, ``[C,dim]``.
        """


class PlanarSpace(GridSpace):
    """A space whose signals are images, one for each orientation; the unit of length is the pixel.

    Angles turn from +x to +y.
    """

    orientations: int
    is_periodic: ClassVar[bool] = True

    @property
    @abstractmethod
    def angles(self) -> Tensor:
        """The angle of each orientation, ``[Or]`` radians, float64."""

    @property
    def angle_step(self) -> float:
        """The angle from one orientation to the next, in radians."""
        return 2 * math.pi / self.orientations

    @property
    def grid_steps(self) -> tuple[float, float, float]:
        """The angle from one orientation to the next in radians, one pixel and one pixel."""
        return self.angle_step, 1.0, 1.0

    def chord(self, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the steps from each element g to g exp(c).

        Args:
            c: vectors in the frame, ``[C,dim]``: pixels along the first two, radians along the third.

        Returns:
            Orientation steps ``[C]``, and rows and columns in pixels, ``[C,Or]`` each.
        """
        x, y = self.exp(c)[..., :2, None].unbind(-2)
        angles = self.angles.to(c)
        cosine, sine = torch.cos(angles), torch.sin(angles)
        turn = c[:, 2] * (self.orientations / (2 * math.pi)) if self.has_orientations else torch.zeros_like(c[:, 0])
        return turn, x * sine + y * cosine, x * cosine - y * sine

    def transform(self, signal: Tensor, **motion: Unpack[MotionOptions]) -> Tensor:
        """Move signals on the space or images ``[B,C,H,W]``; leave invariants of rank two at most unchanged, ``[B,K]``.

        Multiples of 90 degrees are exact on square images. Other angles use cubic splines in the image and Fourier
        interpolation over orientations, without gradient.

        Args:
            signal: signals, images or invariants.
            motion: ``angle=`` degrees about the image centre, or ``shift=(rows, columns)`` in pixels, periodically.
        """
        dense("signal", signal)
        if signal.ndim == 3 or signal.ndim > 4 + self.has_orientations:
            raise ValueError(
                f"signal: expected {self.layout}, images [B,C,H,W] or invariants [B,K], got shape {tuple(signal.shape)}"
            )
        if signal.ndim == 5 and signal.shape[2] != self.orientations:
            raise ValueError(
                f"signal: expected {self.orientations} orientations on axis 2 of {self.layout}, "
                f"got shape {tuple(signal.shape)}"
            )
        if "angle" in motion and len(motion) == 1:
            return self._rotate(signal, _checks.plain_number("angle", motion["angle"], -math.inf, math.inf))
        if "shift" in motion and len(motion) == 1:
            steps = whole_steps(motion["shift"], ("rows", "columns"))
            return signal if signal.ndim < 4 else signal.roll(steps, dims=(-2, -1))
        raise ValueError(f"motion: expected angle=degrees or shift=(rows, columns), got {motion}")

    def _rotate(self, signal: Tensor, angle: float) -> Tensor:
        if signal.ndim < 4:
            return signal
        turned = signal
        if signal.ndim == 5:
            turned = turn_orientations(signal, math.radians(angle))
        if angle % 90 == 0 and (signal.shape[-1] == signal.shape[-2] or angle % 180 == 0):
            return torch.rot90(turned, -round(angle / 90), dims=(-2, -1))
        points = pixel_positions(turned.shape[-2:])
        return sample_image(
            turned, rotation(torch.tensor(-math.radians(angle), dtype=torch.float64, device="cpu"), points)
        )

    def comparison_weights(self, signal: Tensor, **motion: Unpack[MotionOptions]) -> Tensor:
        """Return one inside the disk that rotations keep in the image, zero outside; all ones for exact motions.

        Args:
            signal: the signal that is moved; its last axes are ``[H,W]``.
            motion: as in :meth:`transform`.

        Returns:
            Weights ``[H,W]``; without axes for exact motions and invariants.
        """
        angle = motion.get("angle", 0)
        exact = angle % 180 == 0 or (angle % 90 == 0 and signal.shape[-1] == signal.shape[-2])
        if signal.ndim < 4 or exact:
            return torch.ones((), dtype=signal.dtype, device=signal.device)
        height, width = signal.shape[-2:]
        y = torch.arange(height, device=signal.device, dtype=signal.dtype) - (height - 1) / 2
        x = torch.arange(width, device=signal.device, dtype=signal.dtype) - (width - 1) / 2
        radius = min(height, width) / 2 - 0.5
        return (y[:, None] ** 2 + x[None, :] ** 2 <= radius**2).to(signal.dtype)


def turn_orientations(u: Tensor, angle: float) -> Tensor:
    """Shift the orientation axis of [B,C,Or,H,W] by ``angle`` radians: out(theta) = u(theta - angle)."""
    count = u.shape[2]
    steps = angle * count / (2 * math.pi)
    if abs(steps - round(steps)) < 1e-9:
        return u.roll(round(steps), dims=2)
    _checks.tensor("signal", u)
    spectrum = _fft.apply(fft.rfft, widen(u), dim=2)  # there is no transform of halves on the CPU
    n = torch.arange(spectrum.shape[2], device=u.device, dtype=widen(u).dtype)
    phase = torch.exp(-1j * angle * n)
    if count % 2 == 0:
        phase = torch.cat((phase[:-1], phase[-1:].real.to(phase.dtype)))
    return _fft.apply(fft.irfft, spectrum * phase[:, None, None], n=count, dim=2).to(u.dtype)


def pixel_positions(size: Sequence[int]) -> Tensor:
    """Return positions of pixels from the centre, (x, y) ``[H,W,2]`` or (x, y, z) ``[D,H,W,3]``, float64."""
    lines = [torch.arange(n, dtype=torch.float64, device="cpu") - (n - 1) / 2 for n in size]
    return torch.stack(torch.meshgrid(*lines, indexing="ij")[::-1], dim=-1)


def sample_image(u: Tensor, points: Tensor) -> Tensor:
    """Evaluate cubic splines through the last axes of ``u`` at ``points [*size,n]`` relative to the centre."""
    count = points.shape[-1]
    size = u.shape[-count:]
    where = np.stack([points[..., count - 1 - i] + (n - 1) / 2 for i, n in enumerate(size)])
    if _checks.tensor("signal", u).is_meta:
        return u.new_empty(*u.shape[:-count], *points.shape[:-1])
    fields = u.detach().cpu().double().resolve_neg().reshape(math.prod(u.shape[:-count]), *size).numpy()
    # imported here, as it takes a quarter of the time of importing the spaces
    from scipy import ndimage  # pyright: ignore[reportMissingTypeStubs] - scipy has no stubs

    splines = cast("Callable[..., Floats]", ndimage.map_coordinates)  # pyright: ignore[reportUnknownMemberType] - as above
    found = [splines(field, where, order=3, mode="nearest") for field in fields] if u.numel() else []
    found = np.stack(found) if found else np.empty((len(fields), *points.shape[:-1]))
    return from_numpy(found).reshape(*u.shape[:-count], *points.shape[:-1]).to(u)


def dense(name: str, signal: object) -> Tensor:
    """Return ``signal`` if it is a dense tensor, else raise."""
    if not isinstance(signal, Tensor) or signal.layout is not torch.strided:
        got = signal.layout if isinstance(signal, Tensor) else type(signal).__name__
        raise TypeError(f"{name}: expected a dense torch.Tensor, got {got}")
    return signal


def whole_steps(shift: object, axes: Sequence[str]) -> tuple[int, ...]:
    """Return how many pixels or voxels a shift goes along each axis, else raise."""
    steps = tuple(map(_checks.plain, cast("Sequence[object]", shift))) if isinstance(shift, (tuple, list)) else ()
    if len(steps) != len(axes) or any(isinstance(n, bool) or not isinstance(n, int) for n in steps):
        raise ValueError(f"shift: expected {len(axes)} ints ({', '.join(axes)}), got {shift!r}")
    return steps


def normalise_sizes(kernel_size: object, count: int, names: str) -> tuple[int, ...]:
    """Return ``count`` odd tap numbers from one number or a sequence, else raise."""
    if isinstance(kernel_size, bool) or not isinstance(kernel_size, (int, Sequence)) or isinstance(kernel_size, str):
        raise TypeError(f"kernel_size: expected an odd int or {count} of them {names}, got {kernel_size!r}")
    sizes = (kernel_size,) * count if isinstance(kernel_size, int) else tuple(cast("Sequence[int]", kernel_size))
    if len(sizes) != count:
        raise ValueError(f"kernel_size: expected an odd int or {count} of them {names}, got {kernel_size!r}")
    _checks.odd("kernel_size", sizes)
    return sizes
