"""Checks of arguments that solvers of several spaces share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pdegcnn import _checks, _transforms
from pdegcnn._dtypes import HALF, widen
from pdegcnn._typing import tolist
from pdegcnn.kernels.metric import Metric, as_metric


def check_vector(vector: object, dim: int, u: Tensor) -> Tensor:
    """Return vectors ``[dim]`` or ``[C,dim]`` of the kind of the signal u, as ``[C,dim]``; raise for any others."""
    vector = _checks.tensor("vector", vector)
    if vector.ndim == 1:
        vector = vector[None]
    channels = u.shape[1]
    if vector.ndim != 2 or vector.shape[1] != dim or (vector.shape[0] != 1 and vector.shape[0] != channels):
        raise ValueError(f"vector: expected shape [{dim}] or [{channels},{dim}], got {tuple(vector.shape)}")
    _checks.same_kind("vector", vector, "u", u)
    if _checks.has_values(vector) and not bool(vector.detach().isfinite().all()):
        raise ValueError(f"vector: expected finite values, got {tolist(vector.detach().flatten()[:9])}")
    return vector.expand(channels, dim)


def check_metric(metric: Tensor | Metric, dim: int, u: Tensor, name: str = "metric") -> Metric:
    """Return the metric as an object of the device, dtype and channels (or one for all) of the signal u, else raise.

    For half precision it may also be in float32. Errors call it ``name``.
    """
    found = as_metric(metric, dim, u.shape[1], name)
    for value in vars(found).values():
        _checks.same_kind(name, value, "u", widen(u) if value.dtype == torch.float32 else u)
    return found


def wide_metric(metric: Metric) -> Metric:
    """Return a metric in half precision as one in float32: squares of its weights would leave the range."""
    fields = vars(metric)
    for value in fields.values():
        if value.dtype in HALF:
            return type(metric)(**{name: widen(value) for name, value in fields.items()})
    return metric


def diffusivity(metric: Metric, name: str = "metric") -> Tensor:
    """Return the inverse matrices ``[C,dim,dim]`` of a metric; raise where they overflow."""
    inverse = metric.cometric()
    if _checks.has_values(inverse) and not bool(inverse.detach().isfinite().all()):
        got = tolist(metric.gram().detach().flatten()[:9])
        raise ValueError(f"{name}: expected a metric whose inverse is finite in {inverse.dtype}, got matrices of {got}")
    return inverse


def check_may_look(*values: object) -> None:
    """Raise where ``kernel_size="auto"`` cannot read the values, numbers or tensors, that it depends on."""
    if _transforms.hides_values(*(x for x in values if isinstance(x, Tensor))):
        raise RuntimeError(
            "kernel_size: expected odd sizes inside torch.jit.trace, make_fx, torch.func.linearize and torch.vmap, got "
            "'auto', which depends on values"
        )


def spread(u: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
    """Return the range of values of each channel within any one member of the batch, ``[C]``, without gradient.

    Members with NaN do not count beside others. With ``sizes``, every mesh of a union is a separate member: as many
    points on the last axis. Zero for an empty batch.
    """
    u = u.detach()
    if not u.shape[0]:
        return u.new_zeros(u.shape[1])
    axes = tuple(range(2, u.ndim))
    members = torch.cat([p.amax(axes) - p.amin(axes) for p in (torch.split(u, list(sizes), -1) if sizes else (u,))])
    widest = torch.where(members.isnan(), -1, members).amax(0)
    return torch.where(widest < 0, torch.nan, widest)
