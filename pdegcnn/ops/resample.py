"""Resize signals along their last axes, without aliasing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pdegcnn import _checks, _transforms
from pdegcnn._typing import sym_max

LANCZOS = 3
"""Samples of the coarser grid to each side that the windowed sinc reaches."""
FILTERS = ("linear", "lanczos")
"""Of :func:`resample`."""


def resample(u: Tensor, size: int | tuple[int, ...], filter: str = "linear") -> Tensor:
    """Resize the last axes of any ``[..., H, W]``, centred, with anti-aliasing when it shrinks.

    Sample points are symmetric about the image centre for all sizes, even or odd, so resizing commutes with rotations
    by 90 degrees; taking every n-th pixel does not. A signal that has the size already is returned as it is.

    Args:
        u: any floating tensor of rank two or more.
        size: height and width of the result, or one number for both; three numbers resize volumes ``[..., D, H, W]``.
        filter: ``"linear"`` (a triangle: stays within the range of ``u``, but lets 40 % of a wave at the edge of the
            new band alias, and blurs below it) or ``"lanczos"`` (a windowed sinc over three samples of the coarser
            grid: keeps the band, overshoots at edges).

    Example:
        >>> import torch, pdegcnn as pg
        >>> pg.functional.resample(torch.tensor([[0.0, 1.0, 2.0, 3.0]] * 4), 2)
        tensor([[0.7143, 2.2857],
                [0.7143, 2.2857]])
    """
    _checks.tensor("u", u)
    sizes: tuple[Any, ...] = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    count = len(sizes)
    if count not in (2, 3):
        raise ValueError(f"size: expected a positive int, or two or three of them, got {size!r}")
    if u.ndim < count or 0 in u.shape[-count:]:
        layout = "[..., H, W] with pixels" if count == 2 else "[..., D, H, W] with voxels"
        raise ValueError(f"u: expected a tensor {layout}, got shape {tuple(u.shape)}")
    return resample_axes(u, [_checks.positive_int("size", n) for n in sizes], filter)


def resample_axes(u: Tensor, sizes: Sequence[int], filter: str) -> Tensor:
    """Resize the last ``len(sizes)`` axes of ``u``, as :func:`resample` does with two."""
    _checks.choice("filter", filter, FILTERS)
    for axis, target in zip(range(-len(sizes), 0), sizes):
        if not _transforms.in_trace() and u.shape[axis] == target:
            continue  # the matrix is the identity; a graph for every size must not compare them
        matrix = _resampling_matrix(u.shape[axis], target, filter, u)
        u = u @ matrix.mT if axis == -1 else _times_axis(matrix, u, axis)
    return u


def _times_axis(matrix: Tensor, u: Tensor, axis: int) -> Tensor:
    """Multiply ``axis`` of ``u``, one before the last, by ``matrix``.

    By ``bmm``, because ``matmul`` compares sizes, which a program that is traced for every size cannot do.
    """
    if u.ndim == 2:
        return matrix @ u
    before, after = u.shape[:axis], u.shape[axis + 1 :]
    columns = u.reshape(-1, u.shape[axis], math.prod(after))
    return torch.bmm(matrix.expand(columns.shape[0], -1, -1), columns).reshape(*before, matrix.shape[0], *after)


def _resampling_matrix(size: int, target: int, filter: str, like: Tensor) -> Tensor:
    """Return rows of weights of sum one, ``[target, size]``."""
    # torch.jit.trace makes tensors of sizes
    size, target = (int(n) if isinstance(n, Tensor) else n for n in (size, target))
    scale = size / target
    centre = (torch.arange(target, dtype=torch.float64, device=like.device) + 0.5) * scale - 0.5
    away = (torch.arange(size, dtype=torch.float64, device=like.device) - centre[:, None]).abs() / sym_max(scale, 1.0)
    weight = (1 - away).clamp_min(0)
    if filter == "lanczos":
        weight = torch.where(away < LANCZOS, torch.sinc(away) * torch.sinc(away / LANCZOS), 0.0)
    return (weight / weight.sum(1, keepdim=True)).to(like.dtype)
