"""Base class of solvers: one term on one space, with options that are checked once."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._derived import Derived
from pdegcnn.kernels.metric import Metric
from pdegcnn.spaces import Space

Alpha = float | Tensor
"""A fixed or a learned power."""
KernelSize = int | Sequence[int] | str
"""Odd numbers of samples across the window, one for all axes or one per axis, or ``"auto"``."""
Radius = float | Sequence[float]
"""Radius of the window in units of length of the space, or (radians of orientation, units of length)."""

KERNEL_OPTIONS = ("kernel_size", "radius", "distance")
"""Options of kernels, which spectral methods do not have."""
NEGLIGIBLE = 40.0
"""Taps of log-plus whose costs exceed the range of the signal by this many temperatures weigh less than rounding."""


@dataclass(frozen=True)
class Options:
    """Options of a solver; None: the solver's default.

    Attributes:
        method: how the term is solved.
        kernel_size: number of samples across the kernel.
        radius: extent of the kernel in physical units, in place of ``kernel_size``.
        distance: approximation of the distance in the kernel.
        boundary: continuation of the signal outside its domain.
        subgrid: how dilation and erosion read values between samples.
        oversample: how many times more finely dilation and erosion read their input, one number or
            (orientations, space).
        semifield: ``"max_plus"`` or ``"log_plus"`` (soft maximum).
        smoothing: standard deviation of the Gaussian before derivatives, in units of length, or (radians, that).
        inner_orientations: number of orientations on which a term on SE(2) is solved.
    """

    method: str | None = None
    kernel_size: KernelSize | None = None
    radius: Radius | None = None
    distance: str | None = None
    boundary: str | None = None
    subgrid: str | None = None
    oversample: int | tuple[int, int | None] | None = None
    semifield: str | None = None
    smoothing: Radius | None = None
    inner_orientations: int | None = None

    def __post_init__(self) -> None:
        if self.semifield is not None and _checks.choice("semifield", self.semifield, _checks.SEMIFIELDS) == "max_plus":
            object.__setattr__(self, "semifield", None)  # the default, which every space supports
        for name in ("kernel_size", "radius", "oversample", "smoothing"):
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.radius is not None and self.kernel_size is not None:
            raise ValueError(
                f"radius: expected None together with kernel_size={self.kernel_size!r}, got {self.radius!r}"
            )

    def reach(self, angle: float) -> tuple[float, float] | None:
        """Return ``radius`` as (radians, units of length), or None if it is not given.

        Args:
            angle: radians to use if the radius is one number.
        """
        if self.radius is None:
            return None
        wanted = "radius: expected a number or two of them (radians, units of length)"
        if isinstance(self.radius, str) or not isinstance(self.radius, (int, float, tuple)):
            raise TypeError(f"{wanted}, got {self.radius!r}")
        if isinstance(self.radius, tuple):
            if len(self.radius) != 2:
                raise ValueError(f"{wanted}, got {self.radius!r}")
            angle, length = self.radius
        else:
            length = self.radius
        for value in (angle, length):
            _checks.number("radius", value, 0.0, float(2**29))
        return min(float(angle), 2 * math.pi), float(length)

    def given(self) -> dict[str, object]:
        """Return the options that are not None."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}

    @property
    def spelling(self) -> str:
        """The numbers as they are written; 3.0 and True are equal to right values, 3 and 1, but are refused."""
        return repr((self.kernel_size, self.radius, self.oversample, self.smoothing))

    def hashable(self) -> bool:
        """Return whether the options can be the key of a table; wrong ones may hold anything."""
        try:
            hash(self)
        except TypeError:
            return False
        return True


def refuse_unknown(options: Options, known: Collection[str], terms: str, space: Space) -> None:
    """Raise ``ValueError`` for an option that is given and not one of those that ``terms`` have on ``space``."""
    for name, value in options.given().items():
        if name not in known:
            usual = "'max_plus'" if name == "semifield" else None
            raise ValueError(f"{name}: expected {usual} for {terms} on {space}, got {value!r}")


class Solver(Derived, ABC):
    """Base class of the solvers of one term on one space.

    A term of a layer holds its solver. The constructor checks options and computes tables. The methods that solve
    expect checked arguments: signals and parameters of one device and precision, metrics as objects.

    Args:
        space: the space.
        term: name of the term.
        options: choices of the solver.
        device: where its tables live.
        dtype: their dtype; None: torch's default.

    Raises:
        ValueError: if an option is out of range, or the term does not have it.
        TypeError: if an option has the wrong type.
    """

    OPTIONS: ClassVar[Mapping[str, tuple[str, ...]]]
    """Names of the options of each term."""
    HAS_TABLES: ClassVar[bool] = False
    """Whether making a solver takes long, so that functions keep it for later calls."""

    def __init__(
        self,
        space: Space,
        term: str,
        options: Options,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.space, self.term, self.options = space, term, options
        refuse_unknown(options, self.OPTIONS[term], term, space)
        self._set_up(options, torch.empty(0, device=device, dtype=dtype))

    @abstractmethod
    def _set_up(self, options: Options, like: Tensor) -> None:
        """Check the options, fill in defaults, make tables of the device and dtype of ``like``."""

    def on(self, space: Space) -> Solver:
        """Return the solver of the same term with the same options on another space.

        Args:
            space: of the same family, for example SE(2) with another number of orientations.

        Raises:
            ValueError: if an option is out of range on that space.
        """
        return type(self)(space, self.term, self.options)

    @property
    def channels_are_independent(self) -> bool:
        """Whether channels solved separately give the same result as together."""
        return False

    @property
    def expansion(self) -> float:
        """The number of samples that are read for each sample of a signal."""
        return 1.0

    @property
    def power_range(self) -> tuple[float, float, bool]:
        """The range of the power alpha, and whether its lower end is excluded."""
        return (0.5, 1.0, False) if self.term in ("dilation", "erosion") else (0.0, 1.0, True)

    def check_power(self, alpha: Alpha) -> Alpha:
        """Return the power, as a number or a tensor without axes, if the term exists for it.

        Args:
            alpha: the power, a number or a tensor of one element; :attr:`power_range` says which ones exist.

        Raises:
            ValueError: if the power is out of range, or a tensor has several elements.
        """
        low, high, open_low = self.power_range
        return _checks.power(alpha, low, high, open_low=open_low)

    def check_time(self, time: float) -> None:
        """Raise ``ValueError`` if ``time`` is negative, or zero for a term other than convection.

        Args:
            time: length of the step, finite.

        Raises:
            TypeError: if ``time`` is a tensor, which would get no gradient.
        """
        if isinstance(time, Tensor):
            way = {
                "convection": "scale the vector by it",
                "convection_diffusion": "scale vector and metric",
                "diffusion_shock": "scale both metrics",
            }.get(self.term, "multiply the weights of the metric by time ** (-1 / (2 * alpha))")
            got = f"a tensor of shape {tuple(time.shape)}"
            raise TypeError(f"time: expected a number (for a gradient in it, {way}), got {got}")
        if not (isinstance(time, float) and 0.0 < time < math.inf):
            _checks.interval("time", time, 0.0, math.inf, open_low=self.term != "convection")

    def convection(self, u: Tensor, vector: Tensor, time: float) -> Tensor:
        r"""Return :math:`u(g \exp(-t c))` for vectors c ``[C,dim]``.

        Args:
            u: a signal ``[B,C,...]`` laid out as ``space.layout``.
            vector: velocities in the frame, in the units of the space per unit of time.
            time: length of the step.
        """
        raise NotImplementedError(f"{type(self).__name__} does not solve convection")

    def diffusion(self, u: Tensor, metric: Metric, alpha: Alpha, time: float) -> Tensor:
        r"""Return :math:`\exp(-t (-\Delta)^\alpha)\, u`.

        Args:
            u: a signal ``[B,C,...]`` laid out as ``space.layout``.
            metric: its inverse matrix is the diffusivity.
            alpha: power of the Laplacian, in (0, 1].
            time: length of the step.
        """
        raise NotImplementedError(f"{type(self).__name__} does not solve diffusion")

    def morphology(self, u: Tensor, metric: Metric, alpha: Alpha, time: float, sign: int) -> Tensor:
        """Return the dilation (sign +1) or erosion (sign -1) of u.

        Args:
            u: a signal ``[B,C,...]`` laid out as ``space.layout``.
            metric: sets the cost of a move.
            alpha: the power in the equation, in [0.5, 1].
            time: length of the step.
            sign: +1 or -1.
        """
        raise NotImplementedError(f"{type(self).__name__} does not solve dilation")

    def soft_morphology(
        self, u: Tensor, metric: Metric, alpha: Alpha, time: float, sign: int, temperature: Alpha
    ) -> Tensor:
        """Return the dilation (sign +1) or erosion (-1) of u in the log-plus semifield, which keeps constants.

        Args:
            u: a signal ``[B,C,...]`` laid out as ``space.layout``.
            metric: sets the cost of a move.
            alpha: the power in the equation, in [0.5, 1].
            time: length of the step.
            sign: +1 or -1.
            temperature: positive; the result tends to that of :meth:`morphology` as it tends to zero.
        """
        raise NotImplementedError(f"{type(self).__name__} does not solve dilation")

    def extra_repr(self) -> str:
        """Describe the term, the space and the options that were given."""
        given = [f"{name}={value!r}" for name, value in self.options.given().items()]
        return ", ".join([self.term, str(self.space), *given])
