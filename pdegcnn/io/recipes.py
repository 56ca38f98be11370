"""Arguments of builders as JSON and back: numbers, words, sequences, dtypes, spaces and grids."""

from __future__ import annotations

import math
from typing import Any

import torch

from pdegcnn.spaces import R2, R3, S2, SE2, SO3
from pdegcnn.sphere import SphereGrid

DTYPES = {str(d).removeprefix("torch."): d for d in (torch.float16, torch.bfloat16, torch.float32, torch.float64)}
GRIDS = {
    "gauss_legendre": lambda rings, ring: SphereGrid.gauss_legendre(rings, ring),
    "driscoll_healy": lambda rings, ring: SphereGrid.equiangular(rings // 2, "driscoll_healy"),
    "full_band": lambda rings, ring: SphereGrid.equiangular(rings, "full_band"),
    "clenshaw_curtis": lambda rings, ring: SphereGrid.clenshaw_curtis(rings, ring),
    "reduced_gauss": lambda rings, ring: SphereGrid.reduced_gauss(rings),
}
"""Makers of grids by name, from the number of rings and the points of the longest."""
TAG = "type"


def to_json(name: str, value: Any) -> Any:
    """Return what stands for an argument in a file; raise ``TypeError`` for values that have nothing."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, (list, tuple)):
        return [to_json(name, v) for v in value]
    if isinstance(value, dict) and TAG not in value and all(isinstance(k, str) for k in value):
        return {k: to_json(f"{name}, argument {k}", v) for k, v in value.items()}
    if isinstance(value, torch.dtype) and value in DTYPES.values():
        return {TAG: "dtype", "name": str(value).removeprefix("torch.")}
    if isinstance(value, R2):
        return {TAG: "R2"}
    if isinstance(value, R3):
        return {TAG: "R3", "spacing": to_json(name, value.spacing)}
    if isinstance(value, SE2):
        return {TAG: "SE2", "orientations": value.orientations}
    if isinstance(value, S2):
        return {TAG: "S2", "grid": to_json(name, value.grid)}
    if isinstance(value, SO3):
        return {TAG: "SO3", "grid": to_json(name, value.grid), "fibre": value.orientations}
    if isinstance(value, SphereGrid) and value.name in GRIDS:
        rings, ring = len(value.theta), value.nlon
        if GRIDS[value.name](rings, ring) == value:
            return {TAG: "grid", "name": value.name, "rings": rings, "ring": ring}
    raise TypeError(
        f"{name}: expected numbers, words, dtypes, spaces of images and volumes, and grids of rings, got {value!r:.200}"
    )


def from_json(name: str, value: Any) -> Any:
    """Return the argument again; raise ``ValueError`` for anything that :func:`to_json` does not write."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return tuple(from_json(name, v) for v in value)
    try:
        kind = value[TAG]
        if kind == "dtype":
            return DTYPES[value["name"]]
        if kind == "R2":
            return R2()
        if kind == "R3":
            return R3(from_json(name, value["spacing"]))
        if kind == "SE2":
            return SE2(value["orientations"])
        if kind == "S2":
            return S2(from_json(name, value["grid"]))
        if kind == "SO3":
            return SO3(from_json(name, value["grid"]), value["fibre"])
        if kind == "grid":
            return GRIDS[value["name"]](value["rings"], value["ring"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{name}: expected an argument as pdegcnn.save writes it, got {value!r:.200} ({error})"
        ) from error
    raise ValueError(f"{name}: expected an argument as pdegcnn.save writes it, got {value!r:.200}")
