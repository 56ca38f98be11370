"""Conversion between regular fields of the rotation group C_N (escnn, e2cnn) and signals on SE(2).

In escnn a field of C channels is ``[B, C N, H, W]``: N responses side by side, where element g rotates by
``2 pi g / N`` counter-clockwise as displayed. Here it is ``[B, C, N, H, W]`` with angles from +x to +y, which points
down: clockwise as displayed. Response g there is therefore orientation ``-g mod N`` here. Source: Weiler & Cesa,
*General E(2)-equivariant steerable CNNs* (arXiv 1911.08251).
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor

from pdegcnn import _checks

__all__ = ["convolution_kernel", "from_regular", "to_geometric", "to_regular"]


def _reversed(u: Tensor, dim: int) -> Tensor:
    """Reverse the order of orientations, except the first."""
    return u.flip(dim).roll(1, dim)


def from_regular(field: Any, orientations: int) -> Tensor:
    """Convert a regular field ``[B, C N, H, W]`` of C_N to a signal ``[B,C,N,H,W]`` on ``SE2(N)``.

    Args:
        field: a tensor, or an escnn ``GeometricTensor`` whose fields are all regular.
        orientations: N.

    Raises:
        ValueError: if N does not divide the channels, or fields are not regular.
        TypeError: if ``field`` is neither a floating tensor nor a ``GeometricTensor``.
    """
    count = _checks.positive_int("orientations", orientations)
    kind = getattr(field, "type", None)
    if kind is not None and not isinstance(field, Tensor):
        _check_regular("field", kind, count)
        field = field.tensor
    _checks.signal("field", field, 4, "[B,C*N,H,W]")
    if field.shape[1] % count:
        raise ValueError(f"field: expected a multiple of {count} channels in [B,C*N,H,W], got {tuple(field.shape)}")
    return _reversed(field.unflatten(1, (-1, count)), 2)


def to_regular(u: Tensor) -> Tensor:
    """Convert a signal ``[B,C,N,H,W]`` to a regular field ``[B, C N, H, W]``: the inverse of :func:`from_regular`.

    Args:
        u: a signal on ``SE2(N)``.
    """
    _checks.signal("u", u, 5, "[B,C,Or,H,W]")
    return _reversed(u, 2).flatten(1, 2)


def to_geometric(u: Tensor) -> Any:
    """Convert a signal ``[B,C,N,H,W]`` to an escnn ``GeometricTensor`` over ``rot2dOnR2(N)``.

    Args:
        u: a signal on ``SE2(N)``.

    Raises:
        ImportError: if escnn is not installed; :mod:`pdegcnn.interop` says how to install it.
    """
    field = to_regular(u)
    try:
        gspaces, nn = (importlib.import_module(f"escnn.{name}") for name in ("gspaces", "nn"))
    except ImportError as error:
        raise ImportError(f"to_geometric needs escnn==1.0.11 and numpy<2, see pdegcnn.interop ({error})") from error
    space = gspaces.rot2dOnR2(u.shape[2])
    return nn.GeometricTensor(field, nn.FieldType(space, u.shape[1] * [space.regular_repr]))


def convolution_kernel(convolution: Any) -> Tensor:
    """Return the kernel ``[C',C,N,KO,K,K]`` that makes :func:`pdegcnn.functional.group_convolution` equal to escnn's.

    The kernel reproduces the correlation of ``R2Conv`` between regular fields, without its bias and with zeros outside:
    ``from_regular(convolution(x)) == group_convolution(from_regular(x), kernel)``. This holds for odd K, padding
    ``K // 2``, and stride, dilation and groups of one.

    Args:
        convolution: an escnn ``R2Conv`` between regular fields of one C_N.

    Raises:
        ValueError: for fields that are not regular, even kernels, or another stride, dilation, padding or groups.
    """
    count = len(list(convolution.in_type.gspace.testing_elements))
    _check_regular("convolution.in_type", convolution.in_type, count)
    _check_regular("convolution.out_type", convolution.out_type, count)
    filters, _ = convolution.expand_parameters()
    width = filters.shape[-1]
    _checks.odd("convolution.kernel_size", (width,))
    for name, wanted in (("stride", 1), ("dilation", 1), ("groups", 1), ("padding", width // 2)):
        value = getattr(convolution, name)
        if any(v != wanted for v in (value if isinstance(value, (tuple, list)) else (value,))):
            raise ValueError(f"convolution.{name}: expected {wanted}, got {value}")
    filters = filters.unflatten(1, (-1, count)).unflatten(0, (-1, count))  # [C',N,C,N,K,K]
    filters = _reversed(_reversed(filters, 1), 3).transpose(1, 2)  # [C',C,out,in,K,K]
    taps = count + 1 - count % 2
    steps = torch.arange(taps, device=filters.device) - taps // 2
    there = (torch.arange(count, device=filters.device)[:, None] + steps) % count
    index = there[None, None, :, :, None, None].expand(*filters.shape[:3], taps, width, width)
    kernel = filters.gather(3, index)
    if taps > count:  # the opposite orientation is reached from both sides: count it once
        kernel = kernel.index_fill(3, torch.tensor([taps - 1], device=kernel.device), 0.0)
    return kernel


def _check_regular(name: str, kind: Any, count: int) -> None:
    sizes = [(r.name, r.size) for r in kind.representations]
    if any(name_ != "regular" or size != count for name_, size in sizes):
        raise ValueError(f"{name}: expected regular fields of C_{count}, got {sorted({str(s) for s in sizes})}")
