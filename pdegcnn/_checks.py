"""Checks of arguments. Every message names the argument, what was expected and what was given."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from pdegcnn import _transforms

LIMIT = 2**31
"""No size or number of steps is that large; refused by name, rather than by the allocator or never."""


def tensor(name: str, value: Any, ndim: int | Sequence[int] | None = None, layout: str = "") -> Tensor:
    """Return ``value`` if it is a floating-point tensor of one of the ranks ``ndim``, else raise."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        hint = f"; an image of 8 bits: {name}.float() / 255" if value.dtype == torch.uint8 else ""
        raise TypeError(f"{name}: expected a floating-point tensor, got dtype {value.dtype}{hint}")
    if value.layout is not torch.strided:
        raise TypeError(f"{name}: expected a dense tensor, got layout {value.layout}")
    ranks = (ndim,) if isinstance(ndim, int) else ndim
    if ranks is not None and value.ndim not in ranks:
        shape = f" laid out {layout}" if layout else ""
        wanted = " or ".join(str(r) for r in ranks)
        lift = "Or" in layout and value.ndim + 1 == min(ranks)
        hint = "; lift first: pdegcnn.nn.Lift(space, in_channels, out_channels)" if lift else ""
        raise ValueError(f"{name}: expected a tensor of rank {wanted}{shape}, got shape {tuple(value.shape)}{hint}")
    return value


def kind(name: str, value: Any, wanted: type, example: str) -> Any:
    """Return ``value`` if it is of the class ``wanted``, else raise."""
    if not isinstance(value, wanted):
        raise TypeError(f"{name}: expected {example}, got {type(value).__name__}")
    return value


def signal(name: str, value: Any, ndim: int, layout: str) -> Tensor:
    """Check a signal: a floating tensor of rank ``ndim`` without empty axes, except the batch, its first."""
    dense = isinstance(value, Tensor) and value.is_floating_point() and value.layout is torch.strided
    if dense and value.ndim == ndim and 0 not in value.shape[1:]:
        return value
    return filled(name, tensor(name, value, ndim, layout), layout)


def filled(name: str, value: Tensor, layout: str) -> Tensor:
    """Raise if an axis but the first, that of the batch, is empty."""
    for axis, size in enumerate(value.shape[1:], 1):
        if size == 0:
            raise ValueError(
                f"{name}: expected no empty axis except the batch in {layout}, "
                f"got shape {tuple(value.shape)} (axis {axis})"
            )
    return value


def described(value: Any) -> str:
    """Return the dtype of a tensor or the name of another class, for messages of errors."""
    return f"dtype {value.dtype}" if isinstance(value, Tensor) else type(value).__name__


def channels(name: str, value: Tensor, count: int, layout: str = "[B,C,...]") -> None:
    """Raise unless the second axis has ``count`` entries."""
    if value.ndim < 2 or value.shape[1] != count:
        raise ValueError(f"{name}: expected {count} channels in {layout}, got shape {tuple(value.shape)}")


def weighted(name: str, value: Any, count: int, weight: Tensor) -> Tensor:
    """Return ``value`` if it is a signal of ``count`` channels that a layer with this weight can take, else raise."""
    alike = isinstance(value, Tensor) and value.dtype == weight.dtype and value.device == weight.device
    if alike and value.layout is torch.strided and value.ndim > 1 and value.shape[1] == count:
        return value
    channels(name, tensor(name, value), count)
    for_weights(name, value, weight)
    return value


def for_weights(name: str, value: Tensor, weight: Tensor) -> None:
    """Raise unless a layer with this weight can take ``value``, real or complex: same device and, but under autocast,
    same precision.
    """
    if value.device != weight.device or not autocasts(value.device):
        same_kind(name, value.real if value.is_complex() else value, "the weights", weight)


def autocasts(device: torch.device) -> bool:
    """Return whether autocast is on for a device; False for devices without autocast, such as meta."""
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def same_kind(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    """Raise unless both tensors share device and dtype."""
    if value.device != other.device:
        raise ValueError(f"{name}: expected device {other.device} as {other_name}, got {value.device}")
    if value.dtype != other.dtype:
        raise TypeError(f"{name}: expected dtype {other.dtype} as {other_name}, got {value.dtype}")


def odd(name: str, sizes: Sequence[int]) -> None:
    """Raise unless every size is a positive odd number."""
    for size in sizes:
        size = int(size) if isinstance(size, Tensor) else size  # torch.jit.trace turns shapes into tensors
        if not isinstance(size, int) or not 0 < size < LIMIT or size % 2 == 0:
            raise ValueError(f"{name}: expected positive odd sizes (below 2**31), got {tuple(sizes)}")


def odd_sizes(name: str, value: Any, count: int) -> tuple[int, ...]:
    """Return ``count`` positive odd sizes, given as ``count`` numbers or one for all, else raise."""
    sizes = (value,) * count if isinstance(value, int) else value
    if not isinstance(sizes, (tuple, list)) or any(isinstance(s, bool) or not isinstance(s, int) for s in sizes):
        raise TypeError(f"{name}: expected an odd int or {count} of them, got {value!r}")
    if len(sizes) != count:
        raise ValueError(f"{name}: expected one size or {count} sizes, got {sizes}")
    odd(name, sizes)
    return tuple(sizes)


def real_numbers(name: str, values: Any, dtype: torch.dtype) -> Tensor:
    """Return the real numbers of an array, list or tensor as a tensor of this dtype on the CPU, else raise.

    The result has no gradient.
    """
    if isinstance(values, Tensor):
        if values.is_complex() or values.layout is not torch.strided or not has_values(values):
            got = f"{described(values)} on {values.device}, {values.layout}"
            raise TypeError(f"{name}: expected a dense tensor of real numbers, got {got}")
        return values.detach().to("cpu", dtype, copy=True)
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name}: expected an array of real numbers, got {values!r}") from error
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}: expected real numbers, got {type(values).__name__} of dtype {array.dtype}")
    return torch.from_numpy(array.astype(np.float64)).to(dtype)


def path(value: Any) -> Path:
    """Return the path that ``value`` names, else raise."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"path: expected a string or path, got {type(value).__name__}")
    return Path(cast("str | os.PathLike[str]", value))


def flag(name: str, value: Any) -> bool:
    """Return ``value`` if it is True or False, else raise."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, got {value!r} of type {type(value).__name__}")
    return value


def mask(value: Any, shape: torch.Size | None = None) -> Tensor:
    """Return ``value`` if it is a bool tensor, expanded to ``shape`` if that is given, else raise."""
    if not isinstance(value, Tensor) or value.dtype != torch.bool or value.layout is not torch.strided:
        raise TypeError(f"mask: expected a bool tensor, got {described(value)}")
    try:
        return value if shape is None else value.expand(shape)
    except RuntimeError:
        raise ValueError(f"mask: expected a shape that fits {tuple(shape or ())}, got {tuple(value.shape)}") from None


def widths(name: str, value: Any, least: int) -> tuple[int, ...]:
    """Return ``value`` if it is a sequence of at least ``least`` positive ints, else raise."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{name}: expected a sequence of positive ints, got {value!r}")
    if len(value) < least:
        raise ValueError(f"{name}: expected at least {least} numbers, got {value!r}")
    return tuple(positive_int(name, n) for n in value)


def choice(name: str, value: Any, allowed: Sequence[Any]) -> Any:
    """Return ``value`` if it is one of ``allowed``, else raise."""
    for candidate in allowed:
        if type(candidate) is type(value) and candidate == value:
            return value
    alike = [a for a in allowed if isinstance(value, type(a)) and isinstance(value, bool) == isinstance(a, bool)]
    if value not in alike:  # 1.0, True and 1 + 0j equal 1 but have other types
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


def positive_int(name: str, value: Any) -> int:
    """Return ``value`` if it is an int >= 1, else raise."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected a positive int, got {value!r} of type {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name}: expected a positive int, got {value}")
    if value >= LIMIT:
        raise ValueError(f"{name}: expected a positive int below 2**31, got {value}")
    return value


def is_compiling() -> bool:
    """Return whether torch.compile or torch.export is tracing: data-dependent checks must then be left out."""
    return torch.compiler.is_compiling()


def has_values(value: Tensor) -> bool:
    """Return whether values of a tensor can be read: not on the meta device, in a trace or inside a transform."""
    return not (_transforms.in_trace() or value.is_meta or _transforms.is_wrapped(value))


def interval(name: str, value: Any, low: float, high: float, *, open_low: bool = False) -> None:
    """Raise unless a number, or a tensor of one, lies in [low, high] ((low, high] with ``open_low``)."""
    brackets = f"{'(' if open_low else '['}{low}, {high}]"
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise ValueError(f"{name}: expected a number or a tensor of one element, got shape {tuple(value.shape)}")
        if has_values(value) and not bool((low < value if open_low else low <= value) & (value <= high)):
            raise ValueError(f"{name}: expected a value in {brackets}, got {value.item()} in a tensor")
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: expected a number in {brackets}, got {value!r} of type {type(value).__name__}")
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        raise ValueError(f"{name}: expected a value in {brackets}, got an int too large for a float")
    if not (low <= value <= high) or (open_low and value == low) or abs(value) == float("inf"):
        raise ValueError(f"{name}: expected a value in {brackets}, got {value}")


def power(alpha: Any, low: float, high: float, *, open_low: bool = False) -> Any:
    """Return the power of a term, a number or a tensor without axes, if it is in a range as of `interval`, else raise.

    A tensor of 1/2 as lowest power gives the number: its kernel is flat, without a derivative in alpha. One that needs
    a gradient is therefore refused.
    """
    if not isinstance(alpha, Tensor):
        interval("alpha", alpha, low, high, open_low=open_low)
        return alpha
    learned = alpha.requires_grad or _transforms.has_tangent(alpha)
    interval("alpha", alpha, low, high, open_low=open_low or (learned and low == 0.5))
    alpha = alpha.reshape(())
    return 0.5 if low == 0.5 and not learned and has_values(alpha) and bool(alpha == 0.5) else alpha


def number(name: str, value: Any, low: float, high: float, *, open_low: bool = False) -> None:
    """Check one number that is not a tensor, as `interval` does."""
    if isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a number, got a tensor of shape {tuple(value.shape)}")
    interval(name, value, low, high, open_low=open_low)


def plain(value: Any) -> Any:
    """Return the Python number in a NumPy scalar or in an array or tensor without axes; anything else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def plain_number(name: str, value: Any, low: float, high: float, *, open_low: bool = False) -> float:
    """Return a number, also one of NumPy or in a tensor without axes, as a Python float; else raise
    as `number` does.
    """
    value = plain(value)
    number(name, value, low, high, open_low=open_low)
    return float(value)


def border(boundary: Any, padding_mode: Any, default: str | None = None) -> Any:
    """Return what lies outside an image: ``boundary``, or ``padding_mode``, which is torch's name for it, or a default.

    ``"circular"``, torch's word, becomes ``"periodic"``.
    """
    if padding_mode is not None:
        if boundary is not None:
            raise ValueError(f"padding_mode: expected None together with boundary={boundary!r}, got {padding_mode!r}")
        boundary = choice("padding_mode", padding_mode, ("zeros", "replicate", "circular", "periodic"))
    if boundary is None:
        return default
    return "periodic" if isinstance(boundary, str) and boundary == "circular" else boundary


def kernel(u: Tensor, kernel: Any, name: str = "kernel", *, stride: int = 1) -> Tensor:
    """Check a turned, depthwise kernel [C,Or,KO,KH,KW] against its signal u [B,C,stride*Or,H,W]."""
    if type(stride) is not int or stride < 1:
        positive_int("stride", stride)
    alike = isinstance(kernel, Tensor) and kernel.dtype == u.dtype and kernel.device == u.device
    dense = alike and kernel.layout is torch.strided and kernel.ndim == 5
    if dense and kernel.shape[0] == u.shape[1] and kernel.shape[1] * stride == u.shape[2]:
        odd(name, kernel.shape[2:])
        return kernel
    tensor(name, kernel, 5, "[C,Or,KO,KH,KW]")
    if kernel.shape[0] != u.shape[1]:
        raise ValueError(
            f"{name}: expected {u.shape[1]} channels as in u, got {kernel.shape[0]} (shape {tuple(kernel.shape)})"
        )
    if kernel.shape[1] * stride != u.shape[2]:
        wanted = f"{u.shape[2]} orientations as in u" if stride == 1 else f"{u.shape[2]} planes over stride {stride}"
        raise ValueError(f"{name}: expected {wanted}, got {kernel.shape[1]} (shape {tuple(kernel.shape)})")
    odd(name, tuple(kernel.shape[2:]))
    same_kind(name, kernel, "u", u)
    return kernel


SEMIFIELDS = ("max_plus", "log_plus")


def temperature(value: Any, semifield: Any, u: Tensor | None = None) -> Any:
    """Return the temperature of a semifield: a number or, for a signal u, a tensor [] or [C] of its kind (or float32
    for half precision), positive and finite; None for max-plus, which has no temperature. Raise for anything else.
    """
    choice("semifield", semifield, SEMIFIELDS)
    if semifield == "max_plus":
        if value is not None:
            raise ValueError(f"temperature: expected None for semifield='max_plus', got {value!r}")
        return None
    if isinstance(value, float):
        interval("temperature", value, 0.0, float("inf"), open_low=True)
        return value
    if u is None or not isinstance(value, Tensor):
        return plain_number("temperature", value, 0.0, float("inf"), open_low=True)
    tensor("temperature", value, (0, 1), "[] or [C]")
    if value.ndim and value.shape[0] != u.shape[1]:
        raise ValueError(f"temperature: expected shape [] or [{u.shape[1]}], got {tuple(value.shape)}")
    same_kind("temperature", value, "u", u.to(torch.float32) if value.dtype == torch.float32 else u)
    if has_values(value) and not bool(((value > 0) & value.isfinite()).all()):
        raise ValueError(f"temperature: expected positive finite values, got {value.detach().flatten()[:8].tolist()}")
    return value
