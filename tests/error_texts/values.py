"""What the tables of error texts are made of: the types of their rows, bad values, and changes of good ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

import pdegcnn as pg

Row = tuple[Mapping[str, Any], type[Exception], str]
"""A change of arguments or inputs by name, a kind of error and a part of its text."""
Call = tuple[Callable[[], object], type[Exception], str]
"""A call, a kind of error and a part of its text."""
GRIDS = pg.sphere.SphereGrid
NAN, INF = math.nan, math.inf
POINTS = GRIDS.icosahedral(1)
EYE, ONE = torch.eye(3), torch.tensor([1.0, 0.0, 0.0, 0.0])
MIRROR = torch.diag(torch.tensor([1.0, 1.0, -1.0]))
SPIN = torch.zeros(1, 2, 4, 7, dtype=torch.complex64)
"""Coefficients of SpinSHT."""
GROUP = torch.zeros(1, 2, 4, 4, 3, dtype=torch.complex64)
"""Coefficients of SO3FFT."""
SIZES = ("in_channels", "classes", "width", "depth", "levels")
"""Sizes of hyperbolic networks."""
SMALL_WEIGHTS = torch.full((3,), 1e-30)
POWERS = torch.tensor([0.6, 0.7, 0.8])
"""One for each column of a kernel of three: there is one power for all channels."""


def first(x: Tensor) -> Tensor:
    """Without the batch axis."""
    return x[0]


def meta(x: Tensor) -> Tensor:
    """On a device without values."""
    return x.to("meta")


def thin(x: Tensor) -> Tensor:
    """With two samples on the last axis."""
    return x[..., :2]


def empty(x: Tensor) -> Tensor:
    """Without samples."""
    return x[..., :0]


def one_channel(x: Tensor) -> Tensor:
    """The first channel of a kernel or of weights."""
    return x[:1]


def broken(x: Tensor) -> Tensor:
    """With numbers that are none."""
    return x * NAN
