"""Arguments of meshes as the Python numbers that operators are kept by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._typing import Numbers

Kind = TypeVar("Kind")


def as_radius(radius: object) -> float | None:
    """Return a radius as the Python number under which operators are kept, or None."""
    return None if radius is None else _checks.plain_number("radius", radius, 0.0, math.inf, open_low=True)


def as_spin(spin: object) -> int:
    """Return a spin as the Python int under which operators are kept."""
    spin = _checks.plain(spin)
    if isinstance(spin, bool) or not isinstance(spin, int):
        raise TypeError(f"spin: expected an int, got {spin!r} of type {type(spin).__name__}")
    return spin


def as_count(count: object) -> int:
    """Return a number of eigenfunctions as a Python int."""
    return _checks.positive_int("count", _checks.plain(count))


def each(name: str, values: object) -> Iterable[Any]:
    """Return ``values`` if they are a sequence, else raise."""
    values = _checks.plain(values)
    if not isinstance(values, Iterable):
        raise TypeError(f"{name}: expected a sequence of numbers, got {values!r} of type {type(values).__name__}")
    return cast("Iterable[Any]", values)


def as_several(meshes: object, kind: type[Kind]) -> list[Kind]:
    """Return the meshes of a sequence, at least one, else raise."""
    if not isinstance(meshes, Sequence):
        raise TypeError(f"meshes: expected a sequence of Mesh, got {type(meshes).__name__}")
    found = list(cast("Sequence[object]", meshes))
    if not found or not all(isinstance(m, kind) for m in found):
        raise TypeError(f"meshes: expected a sequence of Mesh, got {[type(m).__name__ for m in found[:8]]}")
    return cast("list[Kind]", found)


def check_unit(unit: float | None) -> None:
    """Raise unless ``unit`` is a positive number or None."""
    if unit is not None:
        _checks.number("unit", unit, 0.0, math.inf, open_low=True)


def as_angles(angles: Numbers, count: int, name: str = "angles") -> Tensor:
    """Return one finite angle for each of ``count`` vertices, float64, else raise."""
    angles = _checks.real_numbers(name, angles, torch.float64)
    if tuple(angles.shape) != (count,):
        raise ValueError(f"{name}: expected shape [{count}], got {tuple(angles.shape)}")
    if not bool(angles.isfinite().all()):
        raise ValueError(f"{name}: expected finite values, got NaN or infinity")
    return angles


def as_gauge(gauge: Numbers | None, count: int) -> Tensor:
    """Return the angle of each reference direction, float64 on the CPU, zero by default, else raise."""
    if gauge is None:
        return torch.zeros(count, dtype=torch.float64, device="cpu")
    if isinstance(gauge, Tensor) and not _checks.has_values(gauge):  # in a trace, from the gauge of another mesh
        return gauge
    return as_angles(gauge, count, "gauge")


def check_features(features: Any, count: int) -> None:
    """Raise unless ``features`` are complex, with ``count`` vertices on the last axis."""
    if not (isinstance(features, Tensor) and features.is_complex() and features.layout is torch.strided):
        raise TypeError(f"features: expected a complex tensor for spin 1, got {_checks.described(features)}")
    if features.ndim < 1 or features.shape[-1] != count:
        raise ValueError(f"features: expected shape [..., {count}], got {tuple(features.shape)}")


def as_factor(ratio: object, size: Sequence[int] | None, count: int) -> float:
    """Return the factor of `Mesh.coarsen` for a ratio of lengths above 1, or for fewer than ``count`` vertices.

    ``size``: the number of vertices, first, in place of the ratio.
    """
    if size is None:
        return _checks.plain_number("factor", ratio, 1.0, math.inf, open_low=True) ** 2
    if (wanted := _checks.positive_int("size", _checks.plain(size[0]))) >= count:
        raise ValueError(f"size: expected fewer than the {count} vertices of the mesh, got {wanted}")
    return count / wanted
