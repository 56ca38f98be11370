"""Features of several spins: checks, change of gauge, the layout that operators work in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn.spaces import Mesh

Features = dict[int, Tensor]
"""Spin to tensor ``[B,C,V]``: real for spin 0, complex for spin k > 0."""
LAYOUT = "[B,C,V]"
REAL = {torch.complex32: torch.float16, torch.complex64: torch.float32, torch.complex128: torch.float64}
"""Written out, for ``dtype.to_real`` cannot be traced by torch.compile."""
COMPLEX = {real: complex_ for complex_, real in REAL.items()}


def transform(features: Mapping[int, Tensor], angles: Tensor) -> Features:
    r"""Return the same features in a gauge whose reference directions are turned by ``+angles``.

    Args:
        features: spin to ``[B,C,V]``.
        angles: ``[V]`` radians.

    Returns:
        Spin k multiplied by :math:`\exp(-i k \alpha)`, in its own dtype.

    Raises:
        ValueError: if shapes do not fit, or a spin is not an integer >= 0.
        TypeError: if spin 0 is not real, or another spin is not complex.

    Example:
        >>> import torch, pdegcnn as pg
        >>> field = {1: torch.ones(1, 1, 2, dtype=torch.complex128)}
        >>> pg.gauge.transform(field, torch.tensor([0.0, torch.pi / 2]))[1].angle()
        tensor([[[ 0.0000, -1.5708]]], dtype=torch.float64)
    """
    check_features("features", features)
    _check_angles(angles)
    turned: Features = {}
    for spin, field in features.items():
        if angles.is_meta and not field.is_meta:
            raise ValueError(
                f"angles: expected a device with values, like that of features[{spin}], got {angles.device}"
            )
        if field.shape[-1] != angles.numel():
            raise ValueError(f"angles: expected shape [{field.shape[-1]}] as the features, got {tuple(angles.shape)}")
        phase = torch.polar(torch.ones_like(angles, dtype=torch.float64), -spin * angles.double())
        turned[spin] = field if spin == 0 else field * phase.to(field.device, field.dtype)
    return turned


def _check_angles(angles: object) -> None:
    if not isinstance(angles, Tensor) or angles.ndim != 1 or not angles.is_floating_point():
        raise ValueError(f"angles: expected a real tensor [V], got {getattr(angles, 'shape', type(angles).__name__)}")
    _checks.tensor("angles", angles)


def check_spins(name: str, channels: object) -> dict[int, int]:
    """Return ``{spin: channels}`` if it is one with spins >= 0 and positive channels, else raise."""
    if not isinstance(channels, Mapping) or not channels:
        raise TypeError(f"{name}: expected a dictionary of channels per spin such as {{0: 8, 1: 8}}, got {channels!r}")
    given = cast("Mapping[Any, Any]", channels)
    for spin, count in given.items():
        _check_spin(name, spin)
        _checks.positive_int(f"{name}[{spin}]", count)
    return dict(sorted(given.items()))


def _check_spin(name: str, spin: object) -> None:
    if isinstance(spin, bool) or not isinstance(spin, int) or spin < 0:
        raise ValueError(f"{name}: expected spins that are integers >= 0, got {spin!r}")


def check_mesh(mesh: object) -> Mesh:
    """Return ``mesh`` if it is one, else raise."""
    return _checks.kind("mesh", mesh, Mesh, "a pdegcnn.Mesh")


def check_features(
    name: str,
    features: object,
    channels: Mapping[int, int] | None = None,
    mesh: Mesh | None = None,
    weight: Tensor | None = None,
) -> Features:
    """Return ``features`` if they fit each other, the given spins and channels, mesh and weights, else raise."""
    given: Mapping[Any, Any] = _checks.kind(name, features, Mapping, "a dictionary of tensors per spin")
    if mesh is not None:
        check_mesh(mesh)
    if channels is not None and set(given) != set(channels):
        raise ValueError(f"{name}: expected the spins {sorted(channels)}, got {sorted(given, key=str)}")
    for spin, field in given.items():
        _check_spin(name, spin)
        if not isinstance(field, Tensor):
            raise TypeError(f"{name}[{spin}]: expected a torch.Tensor, got {type(field).__name__}")
        if field.layout is not torch.strided:
            raise TypeError(f"{name}[{spin}]: expected a dense tensor, got layout {field.layout}")
        if field.is_complex() != (spin > 0) or not (field.is_complex() or field.is_floating_point()):
            kind = "complex" if spin else "real floating-point"
            raise TypeError(f"{name}[{spin}]: expected a {kind} tensor, got dtype {field.dtype}")
        wanted = [None, channels and channels[spin], mesh and mesh.vertex_count]
        if field.ndim != 3 or any(w is not None and s != w for s, w in zip(field.shape, wanted)):
            shape = ",".join(str(w or letter) for w, letter in zip(wanted, "BCV"))
            raise ValueError(f"{name}[{spin}]: expected shape [{shape}] laid out {LAYOUT}, got {tuple(field.shape)}")
        _checks.filled(f"{name}[{spin}]", field, LAYOUT)
        _check_intertwiners(name, spin, field, given)
        if weight is not None:
            _checks.for_weights(f"{name}[{spin}]", field, weight)
    return dict(given)


def _check_intertwiners(name: str, spin: int, field: Tensor, features: Mapping[int, Tensor]) -> None:
    """Raise unless a field has the batch, vertices and device of the first one."""
    first, other = next(iter(features.items()))
    if field.shape[::2] != other.shape[::2]:
        raise ValueError(
            f"{name}[{spin}]: expected the batch and vertices of {name}[{first}] {tuple(other.shape)}, "
            f"got shape {tuple(field.shape)}"
        )
    if field.device != other.device:
        raise ValueError(f"{name}[{spin}]: expected device {other.device} as {name}[{first}], got {field.device}")


def in_precision(features: Mapping[int, Tensor], real: torch.dtype) -> Features:
    """Return features in a real precision, spins above 0 in its complex numbers: for bfloat16 those of float32."""
    complex_ = COMPLEX.get(real, torch.complex64)
    return {spin: field.to(complex_ if spin else real) for spin, field in features.items()}


def real_of(dtype: torch.dtype) -> torch.dtype:
    """Return the real dtype of a real or complex one."""
    return REAL.get(dtype, dtype)
