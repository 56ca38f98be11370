"""Checks of arguments that solvers of several spaces share."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pdegcnn import _checks, _transforms
from pdegcnn.kernels.metric import Metric


def check_vector(vector: Any, dim: int, u: Tensor) -> Tensor:
    """Vectors ``[dim]`` or ``[C,dim]`` of the kind of the signal u, as ``[C,dim]``; raises for any others."""
    _checks.tensor("vector", vector)
    if vector.ndim == 1:
        vector = vector[None]
    channels = u.shape[1]
    if vector.ndim != 2 or vector.shape[1] != dim or vector.shape[0] not in (1, channels):
        raise ValueError(f"vector: expected shape [{dim}] or [{channels},{dim}], got {tuple(vector.shape)}")
    _checks.same_kind("vector", vector, "u", u)
    if _checks.has_values(vector) and not bool(vector.detach().isfinite().all()):
        raise ValueError(f"vector: expected finite values, got {vector.detach().flatten()[:9].tolist()}")
    return vector.expand(channels, dim)


def check_metric_kind(metric: Metric, u: Tensor) -> Metric:
    """Return a metric with the device, dtype and channels (or one for all) of the signal u, else raise."""
    for value in vars(metric).values():
        _checks.same_kind("metric", value, "u", u)
        if value.shape[0] not in (1, u.shape[1]):
            raise ValueError(f"metric: expected one, or one for each of {u.shape[1]} channels of u, got {len(value)}")
    return metric


def check_may_look(*values: Any) -> None:
    """Raise where ``kernel_size="auto"`` cannot look at the values, numbers or tensors, that it depends on."""
    if _transforms.hides_values(*(x for x in values if isinstance(x, Tensor))):
        raise RuntimeError(
            "kernel_size: expected odd sizes inside torch.jit.trace, make_fx, torch.func.linearize and torch.vmap, got "
            "'auto', which looks at values"
        )


def spread(u: Tensor) -> Tensor:
    """Greatest minus least value of each channel, ``[C]``, without gradient; zero for an empty batch."""
    u = u.detach()
    if not u.shape[0]:
        return u.new_zeros(u.shape[1])
    axes = (0, *range(2, u.ndim))
    return u.amax(axes) - u.amin(axes)
