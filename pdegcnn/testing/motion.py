"""Motions of everything that goes into a layer or comes out: signals, features of several spins, meshes, modules."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from pdegcnn import gauge
from pdegcnn._typing import Numbers
from pdegcnn.spaces import R3, SE2, GridSpace, Mesh, PlanarSpace, RotationSpace, Space, by_family
from pdegcnn.spaces.base import MotionOptions
from pdegcnn.spaces.mesh_operators import turn_fibre

EXACT_TOLERANCE, SAMPLED_TOLERANCE = 1e-3, 0.15
"""Greatest error of an equivariant layer where samples move to samples, and where they are interpolated."""


class ReportedMotion(MotionOptions, total=False):
    """A motion of signals, or other reference directions of a mesh.

    Attributes:
        gauge: radians by which the reference direction of each vertex turns.
    """

    gauge: Numbers


class UnknownSignal(Exception):
    """A tensor that is not a signal on a known space: its motion is unknown."""


class Motion(ABC):
    """One motion of all objects of a model; ``spaces`` are the spaces of the model, the main one first."""

    exact = True
    """Whether samples move to samples, so that only rounding remains."""

    def __init__(self, spaces: list[Space], options: MotionOptions) -> None:
        self.spaces, self.options = spaces, options

    @abstractmethod
    def tensor(self, u: Tensor) -> Tensor:
        """Return the signal after the motion."""

    def resolve(self, u: Tensor) -> Tensor:
        """Return the part of a signal that the motion can act on."""
        return u

    def weight(self, u: Tensor) -> Tensor:
        """Return weights of the comparison, broadcastable to ``u``."""
        return u.new_ones(())

    def module(self, module: nn.Module) -> nn.Module:
        """Return the layer that should give the moved output for the moved input: itself unless it holds what moves."""
        return module

    def other(self, value: Any) -> Any:
        """Return the moved form of an argument that is not a tensor, for example a mesh."""
        return value

    def of_folded(self) -> Motion:
        """Return the same motion for signals whose channels and orientations were joined to one axis."""
        return self

    @property
    def tolerance(self) -> float:
        """Greatest error of an equivariant layer."""
        return EXACT_TOLERANCE if self.exact else SAMPLED_TOLERANCE

    def of_pointwise(self) -> Motion | None:
        """Return further motions that pointwise layers, which do not depend on the space, should commute with."""
        return None

    def __str__(self) -> str:
        return ", ".join(f"{k}={_short(v)}" for k, v in self.options.items())

    def move(self, value: Any, act: Callable[[Tensor], Tensor] | None = None) -> Any:
        """Apply ``act`` (by default the motion) to every tensor in nested lists, tuples and dictionaries."""
        if isinstance(value, Tensor):
            act = act or self.tensor
            return act(value) if value.is_floating_point() or value.is_complex() else value
        if isinstance(value, Mapping):
            return {k: self.move(v, act) for k, v in value.items()}
        if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
            return type(value)(self.move(v, act) for v in value)
        return self.other(value)


class GridMotion(Motion):
    """A rotation by ``angle`` degrees or a ``shift`` of images and of signals on SE(2)."""

    folded = 0
    """Number of orientations that were joined with the channels of a signal, 0 if none were."""

    def __init__(self, spaces: list[Space], options: MotionOptions, like: Tensor) -> None:
        super().__init__(spaces, options)
        self.size = tuple(like.shape[-2:])
        self.turn = float(options["angle"]) if "angle" in options else 0.0
        square = self.size[0] == self.size[1]
        self.on_pixels = self.turn % 180 == 0 or (self.turn % 90 == 0 and square)
        self.exact = self.on_pixels and all(self.sampled(s.orientations) for s in spaces if isinstance(s, GridSpace))

    def of_folded(self) -> Motion:
        """Return the motion that takes ``[B, C Or, H, W]`` for a lifted signal."""
        twin = copy.copy(self)
        twin.folded = getattr(self.spaces[0], "orientations", 0)
        return twin

    @property
    def tolerance(self) -> float:
        """Greatest error of an equivariant layer; no mercy for orientations that miss an exact turn of the pixels."""
        return EXACT_TOLERANCE if self.on_pixels else SAMPLED_TOLERANCE

    def sampled(self, orientations: int) -> bool:
        """Return whether the rotation maps orientation samples to orientation samples."""
        steps = self.turn * orientations / 360
        return orientations == 1 or abs(steps - round(steps)) < 1e-9

    def _options(self, u: Tensor) -> MotionOptions:
        """Scale the options: a shift counts in pixels of the first image, fewer in one shrunk by a whole factor."""
        if "shift" not in self.options or u.ndim < 4:
            return self.options
        steps = []
        for amount, size, first in zip(self.options["shift"], u.shape[-2:], self.size):
            scaled = amount * size / first
            steps.append(round(scaled) if scaled == round(scaled) else amount)
        return {"shift": tuple(steps)}

    def tensor(self, u: Tensor) -> Tensor:
        """Return the image or lifted signal, moved."""
        if self.folded and u.ndim == 4 and u.shape[1] % self.folded == 0:
            whole = u.unflatten(1, (-1, self.folded))
            return self.spaces[0].transform(whole, **self._options(whole)).flatten(1, 2)
        space = self.spaces[0]
        if u.ndim == 3:  # flattened within a network
            return u
        if u.ndim == 5 and isinstance(space, SE2):  # a layer at fault may drop some orientations
            space = replace(space, orientations=u.shape[2])
        return space.transform(u, **self._options(u))

    def weight(self, u: Tensor) -> Tensor:
        """Return one where the motion keeps the image."""
        return self.spaces[0].comparison_weights(u, **self._options(u))


class VolumeMotion(Motion):
    """A symmetry, a rotation or a ``shift`` of volumes."""

    def __init__(self, spaces: list[Space], options: MotionOptions, like: Tensor) -> None:
        super().__init__(spaces, options)
        self.exact = spaces[0].comparison_weights(like, **options).ndim == 0

    def tensor(self, u: Tensor) -> Tensor:
        """Return the volume, moved; anything else unchanged."""
        return u if u.ndim != 5 else self.spaces[0].transform(u, **self.options)

    def weight(self, u: Tensor) -> Tensor:
        """Return one where the motion keeps the volume."""
        return self.spaces[0].comparison_weights(u, **self.options)


class RotationMotion(Motion):
    """A rotation of signals on the sphere and on SO(3), each over the grid whose shape it has."""

    exact = False

    def _space(self, u: Tensor) -> RotationSpace | None:
        if u.ndim <= 2 or all(n == 1 for n in u.shape[2:]):
            return None
        for space in self.spaces:
            if not isinstance(space, RotationSpace):
                continue
            base, lifted = len(space.grid.shape), (space.orientations,) * space.has_orientations
            if tuple(u.shape[-base:]) == space.grid.shape and tuple(u.shape[2:-base]) in ((), lifted):
                return space
        raise UnknownSignal(f"shape {tuple(u.shape)} is that of no grid in the model")

    def tensor(self, u: Tensor) -> Tensor:
        """Return the band-limited function, rotated."""
        space = self._space(u)
        return u if space is None else space.transform(u, **self.options)

    def resolve(self, u: Tensor) -> Tensor:
        """Return the band-limited function."""
        space = self._space(u)
        return u if space is None else space.band_limit(u, **self.options)

    def weight(self, u: Tensor) -> Tensor:
        """Return square roots of areas."""
        space = self._space(u)
        return u.new_ones(()) if space is None else space.comparison_weights(u, **self.options)


class GaugeMotion(Motion):
    """Other reference directions, ``gauge`` radians further at each vertex: the mesh changes, functions stay."""

    def __init__(self, spaces: list[Space], angles: Numbers) -> None:
        super().__init__(spaces, {})
        self.angles = torch.as_tensor(angles, dtype=torch.float64)
        self.meshes = {id(s): s.with_gauge(self.angles) for s in spaces if isinstance(s, Mesh) and self._fits(s)}

    def _fits(self, space: Any) -> bool:
        return isinstance(space, Mesh) and space.vertex_count == len(self.angles)

    def tensor(self, u: Tensor) -> Tensor:
        """Return the same lifted signal, read from the new reference directions."""
        if u.is_complex() or u.ndim != 4 or u.shape[-1] != len(self.angles):
            return u
        return turn_fibre(u, -self.angles.to(u.device))

    def move(self, value: Any, act: Callable[[Tensor], Tensor] | None = None) -> Any:
        """Turn features (dictionaries by spin) according to their spin."""
        spins = isinstance(value, Mapping) and value and all(isinstance(k, int) for k in value)
        if act is None and spins and all(isinstance(v, Tensor) and v.ndim == 3 for v in value.values()):
            return gauge.transform(value, self.angles)
        return super().move(value, act)

    def other(self, value: Any) -> Any:
        """Return a mesh with the new reference directions."""
        if not self._fits(value):
            return value
        return self.meshes.setdefault(id(value), value.with_gauge(self.angles))

    def of_pointwise(self) -> Motion:
        """Return the motion that renumbers the vertices."""
        return RelabelMotion(self.spaces, torch.arange(len(self.angles)).flip(0).roll(3))

    def module(self, module: nn.Module) -> nn.Module:
        """Return a copy over the mesh with the new reference directions."""
        twin = copy.deepcopy(module)
        for m in twin.modules():
            for name, value in list(vars(m).items()):
                if isinstance(value, Mesh):
                    setattr(m, name, self.other(value))
        return twin

    def __str__(self) -> str:
        return "other reference directions"


class RelabelMotion(Motion):
    """Another numbering of the points, ``vertices``: the old number of each new one."""

    def __init__(self, spaces: list[Space], vertices: Tensor) -> None:
        super().__init__(spaces, {})
        self.vertices = vertices

    def tensor(self, u: Tensor) -> Tensor:
        """Return the signal in the new numbering."""
        order = self.vertices.to(u.device)
        return u[..., order] if u.ndim > 2 and u.shape[-1] == len(order) else u

    def __str__(self) -> str:
        return "another numbering of the vertices"


class SymmetryMotion(Motion):
    """An isometry of the mesh onto itself, ``symmetry`` = image of each vertex."""

    def tensor(self, u: Tensor) -> Tensor:
        """Return the signal, moved."""
        return self.spaces[0].transform(u, **self.options)


def choose_motion(space: Space, spaces: list[Space], x: Any, options: ReportedMotion) -> Motion:
    """Return the motion that ``options`` name, or the default motion of the space."""
    choose = by_family(space, MOTIONS)
    if choose is None:
        raise TypeError(f"space: expected a space such as pdegcnn.SE2(8), got {type(space).__name__}")
    return choose(spaces, options, x)


def _on_grid(spaces: list[Space], options: ReportedMotion, x: Any) -> Motion:
    like = first_tensor(x)
    square = like.shape[-1] == like.shape[-2]
    return GridMotion(spaces, options or {"angle": 90 if square else 180}, like)


def _in_volume(spaces: list[Space], options: ReportedMotion, x: Any) -> Motion:
    like = first_tensor(x)
    if options:
        return VolumeMotion(spaces, options, like)
    quarter = VolumeMotion(spaces, {"angle": 90}, like)
    return quarter if quarter.exact else VolumeMotion(spaces, {"angle": 180}, like)


def _on_sphere(spaces: list[Space], options: ReportedMotion, _: Any) -> Motion:
    return RotationMotion(spaces, options or {"rotation": _some_rotation()})


def _on_mesh(spaces: list[Space], options: ReportedMotion, _: Any) -> Motion:
    if set(options) == {"symmetry"}:
        return SymmetryMotion(spaces, options)
    if set(options) - {"gauge"}:
        raise ValueError(f"motion: expected symmetry=image of each vertex or gauge=angles, got {options}")
    gauge = options.get("gauge")
    return GaugeMotion(spaces, _some_gauge(cast(Mesh, spaces[0])) if gauge is None else gauge)


MOTIONS: dict[type[Space], Callable[[list[Space], ReportedMotion, Any], Motion]] = {
    PlanarSpace: _on_grid,
    R3: _in_volume,
    RotationSpace: _on_sphere,
    Mesh: _on_mesh,
}
"""What chooses a motion for each family of spaces, from all spaces of a model, options and the input."""


def spaces_of(model: Any, space: Space) -> list[Space]:
    """Return ``space``, then every other space that a module of the model holds."""
    found: list[Space] = [space]
    for m in model.modules() if isinstance(model, nn.Module) else ():
        for value in vars(m).values():
            if isinstance(value, Space) and not any(value is s for s in found):
                found.append(value)
    return found


def first_tensor(value: Any) -> Tensor:
    """Return the first tensor in nested lists, tuples and dictionaries."""
    found = next(tensors(value), None)
    if found is None:
        raise TypeError(f"x: expected a tensor, or a tuple of arguments with one, got {type(value).__name__}")
    return found


def tensors(value: Any) -> Iterator[Tensor]:
    """Return all floating tensors in nested lists, tuples and dictionaries, in order."""
    if isinstance(value, Tensor):
        if value.is_floating_point() or value.is_complex():
            yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from tensors(part)


def _some_rotation() -> Tensor:
    """Return a rotation about a general axis by a general angle."""
    a, b = torch.tensor(0.7, dtype=torch.float64), torch.tensor(1.1, dtype=torch.float64)
    ca, sa, cb, sb = a.cos(), a.sin(), b.cos(), b.sin()
    about_z = torch.tensor([[ca, -sa, 0], [sa, ca, 0], [0, 0, 1]], dtype=torch.float64)
    about_x = torch.tensor([[1, 0, 0], [0, cb, -sb], [0, sb, cb]], dtype=torch.float64)
    return about_x @ about_z


def _some_gauge(mesh: Mesh) -> Tensor:
    """Return a whole number of direction steps at each vertex, scattered but always the same."""
    steps = (torch.arange(mesh.vertex_count) * 2654435761 // 1024) % mesh.orientations
    return steps.double() * (2 * math.pi / mesh.orientations)


def _short(value: Any) -> str:
    if isinstance(value, Tensor) and tuple(value.shape) == (3, 3):
        angle = math.degrees(math.acos(max(-1.0, min(1.0, (float(value.trace()) - 1) / 2))))
        return f"{angle:.0f} degrees"
    return f"{tuple(value.shape)}" if isinstance(value, Tensor) else str(value)
