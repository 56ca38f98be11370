"""Diagnose why a layer does not commute with a motion: each function of ``CAUSES`` tests one call for one cause.

To add a cause, write a function and enter it in ``CAUSES``; the first cause found is reported. Where an experiment on
the layer is possible, it decides; the type of the layer only helps to phrase the message.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.pooling import _AvgPoolNd, _MaxPoolNd

from pdegcnn.nn.normalization import BatchNorm
from pdegcnn.spaces import GridSpace, Mesh, RotationSpace, Space, by_family
from pdegcnn.testing.call import Call
from pdegcnn.testing.motion import GaugeMotion, GridMotion, RelabelMotion, RotationMotion, tensors

PADS = tuple(
    getattr(nn, f"{kind}Pad{n}d")
    for kind in ("Zero", "Constant", "Reflection", "Replication", "Circular")
    for n in (1, 2, 3)
)
NORMS = (BatchNorm, _BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)


def _numbers(value: Any, count: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * count


def stride(call: Call) -> str | None:
    """Find strides whose windows are not centred; on other spaces all strides, which leave the grid."""
    m, x = call.module, call.x
    if not isinstance(m, (_ConvNd, _MaxPoolNd, _AvgPoolNd)) or isinstance(m, _ConvTransposeNd) or x is None:
        return None
    count = x.ndim - 2
    steps, sizes = _numbers(m.stride or m.kernel_size, count), _numbers(m.kernel_size, count)
    if max(steps) == 1:
        return None
    if not isinstance(call.motion, GridMotion):
        return f"stride {steps}: leaves the points of the space; use pdegcnn.nn.SpectralResample on the sphere"
    if "shift" in call.motion.options:
        return f"stride {steps}: only shifts by its multiples remain; use pdegcnn.nn.Resample"
    pads = (0,) * count if isinstance(m.padding, str) else _numbers(m.padding, count)
    dilations = _numbers(getattr(m, "dilation", 1), count)
    for n, k, s, p, d in zip(x.shape[-2:], sizes[-2:], steps[-2:], pads[-2:], dilations[-2:]):
        left = (n + 2 * p - d * (k - 1) - 1) % s
        if left:
            parity = "even" if n % 2 == 0 else "odd"
            return (
                f"stride {s} over the {parity} size {n}: windows of {k} leave {left} pixel(s) over on one side: they "
                f"are not centred; choose a size they fill, or use pdegcnn.nn.Resample"
            )
    if count == 3 and steps[0] > 1:
        return f"stride {steps[0]} over orientations: drops directions; keep stride 1 on that axis"
    return None


def padding(call: Call) -> str | None:
    """Find unequal padding on two sides; on SE(2) also orientations without periodic padding."""
    m, x = call.module, call.x
    if isinstance(m, PADS):
        pads = tuple(m.padding)
        if any(a != b for a, b in zip(pads[::2], pads[1::2])):
            return f"padding {pads}: differs from side to side, so the image is no longer centred; pad evenly"
    if isinstance(m, _ConvNd) and not isinstance(m, _ConvTransposeNd) and isinstance(call.motion, GridMotion):
        if m.padding == "same" and any(k % 2 == 0 for k in m.kernel_size):
            return f"padding 'same' with the even kernel {m.kernel_size}: one side gets more; use odd kernels"
        if x is not None and x.ndim == 5 and m.kernel_size[0] > 1 and m.padding_mode != "circular":
            return f"padding {m.padding_mode!r} over orientations, which are periodic; use pdegcnn.nn.GroupConv"
    if "shift" in call.motion.options and x is not None and x.ndim >= 4 and _vanishes_inside(call):
        return "padding or border: what lies outside the image does not move with it; exact away from the border"
    return None


def _vanishes_inside(call: Call) -> bool:
    """Return whether the error comes from the border: it vanishes for a signal that is zero near it."""
    assert call.x is not None
    inside = torch.zeros(call.x.shape[-2:], dtype=call.x.dtype, device=call.x.device)
    height, width = inside.shape
    inside[height * 3 // 8 : height * 5 // 8, width * 3 // 8 : width * 5 // 8] = 1
    constant = torch.zeros_like(call.x)
    try:
        still = call.run((constant, *call.args[1:]))
        quiet = isinstance(still, Tensor) and bool((still == still[..., :1, :1]).all())
        return quiet and call.error(args=(call.x * inside, *call.args[1:])) < call.motion.tolerance
    except (ValueError, RuntimeError):
        return False


PLAIN_CONVOLUTIONS: dict[type[Space], str] = {
    RotationSpace: "the longitude-latitude array; use pdegcnn.nn.SphereConv or Lift",
    Mesh: "the numbers of vertices or directions; use pdegcnn.nn.Lift or pdegcnn.gauge",
}
"""What a plain convolution goes over where points are not pixels, and what to use."""
MEANS: dict[type[Space], str] = {RotationSpace: "pdegcnn.nn.GlobalPool", Mesh: "pdegcnn.gauge.GlobalPool"}
"""Means weighted by area."""


def plain_convolution(call: Call) -> str | None:
    """Find a convolution whose filters are fixed in one frame."""
    m = call.module
    if not isinstance(m, _ConvNd) or max(m.kernel_size) == 1:
        return None
    space = call.motion.spaces[0]
    elsewhere = by_family(space, PLAIN_CONVOLUTIONS)
    if elsewhere is not None:
        return f"plain convolution over {elsewhere}"
    turned = torch.rot90(m.weight, 1, (-2, -1)) if m.weight.shape[-1] == m.weight.shape[-2] else None
    if m.weight.ndim >= 4 and turned is not None and torch.allclose(turned, m.weight):
        return None
    return f"plain convolution {tuple(m.kernel_size)}: its filters are not turned; use pdegcnn.nn.Lift or GroupConv"


def normalisation(call: Call) -> str | None:
    """Find normalisation with statistics for each place or orientation, or with means without area weights."""
    m, x, space = call.module, call.x, call.motion.spaces[0]
    if isinstance(m, nn.LayerNorm) and x is not None:
        axes = len(m.normalized_shape)
        return f"layer norm over the last {axes} axes with a weight for each place; use pdegcnn.nn.BatchNorm"
    if not isinstance(m, NORMS) or x is None:
        return None
    if space.point_weights is not None and not isinstance(m, BatchNorm):
        return "batch norm over the grid: its means are not weighted by area; use pdegcnn.nn.BatchNorm(channels, space)"
    if isinstance(m, BatchNorm) and m.point_weights is None and space.point_weights is not None:
        return "batch norm over the grid: means are not weighted by area; pass the space, BatchNorm(channels, space)"
    orientations = space.orientations
    if space.point_weights is None and x.shape[1] % orientations == 0 and orientations > 1:
        return (
            f"batch norm over channels times {orientations} orientations: separate statistics and scales for each; "
            "use pdegcnn.nn.BatchNorm on [B,C,Or,H,W]"
        )
    return "batch norm over an axis of the grid: separate statistics and scales for each place"


def with_random_statistics(model: Any) -> Any:
    """Copy the model and give its norms various scales and statistics; return the model itself if it has no norm.

    In a new network they change nothing, and hide what they will do.
    """
    if not isinstance(model, nn.Module) or not any(isinstance(m, NORMS) for m in model.modules()):
        return model
    twin, generator = copy.deepcopy(model), torch.Generator().manual_seed(0)
    for m in twin.modules():
        if isinstance(m, NORMS):
            for value in (*m.parameters(), *m.buffers()):
                if value.is_floating_point() and value is not getattr(m, "point_weights", None):
                    value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    return twin


def plain_mean(call: Call) -> str | None:
    """Find a mean of the samples where the mean of the function is meant."""
    x, out, space = call.x, call.output, call.motion.spaces[0]
    areas = space.areas
    if areas is None or x is None or not isinstance(out, Tensor):
        return None
    if x.ndim < 3 or x.shape[:2] != out.shape[:2] or out.numel() != x.shape[0] * x.shape[1]:
        return None
    if x.shape[-areas.ndim :] != areas.shape:
        return None
    plain, weights = x.flatten(2).mean(2), areas.to(x)
    true = (x * (weights / weights.mean())).flatten(2).mean(2)
    is_plain = torch.allclose(out.reshape(x.shape[:2]), plain, rtol=1e-4, atol=1e-6)
    if is_plain and not torch.allclose(plain, true, rtol=1e-4, atol=1e-6):
        return f"mean not weighted by area: points stand for different areas; use {by_family(space, MEANS)}"
    return None


def flattening(call: Call) -> str | None:
    """Find layers that turn positions into features, which a later layer distinguishes."""
    x, out = call.x, call.output
    if x is None or not isinstance(out, Tensor) or out.ndim > 2 or x.ndim < 3:
        return None
    if isinstance(call.module, nn.Flatten) and math.prod(x.shape[2:]) > 1:
        return "places become features in a fixed frame; reduce the grid first (mean, maximum, pdegcnn.nn.GlobalPool)"
    return None


def wrong_axis(call: Call) -> str | None:
    """Find a pointwise operation that acts along an axis of the grid, by changing one entry of the input."""
    x, out = call.x, call.output
    if x is None or not isinstance(out, Tensor) or x.ndim < 3 or out.shape[:-1] != x.shape[:-1]:
        return None
    axes = _touched_axes(call)
    first = x.ndim - call.grid_axes
    fibre = [a for a in axes if 2 <= a < first]
    if len(axes) == 1 and (axes[0] >= first or (fibre and isinstance(call.motion, GaugeMotion))):
        a = axes[0]
        what = "directions" if a < first else "the grid"
        return (
            f"acts along axis {a} of {tuple(x.shape)}, an axis of {what}, not along channels (axis 1): "
            f"use pdegcnn.nn.ChannelLinear, or an operation with dim=1"
        )
    return None


def _touched_axes(call: Call) -> list[int]:
    """Return axes along which the output changes away from a changed entry, almost everywhere along them."""
    assert call.x is not None
    x = call.x
    place = tuple(n // 2 for n in x.shape)
    changed = x.clone()
    changed[place] += x.abs().mean() + 1
    after = call.run((changed, *call.args[1:]))
    before = call.run((x, *call.args[1:]))
    moved = (after != before).nonzero()
    axes = []
    for axis in range(2, x.ndim):
        reached = moved[:, axis].unique()
        if len(reached) > max(1, before.shape[axis] // 2):
            axes.append(axis)
        elif len(reached) > 1 or (len(reached) == 1 and int(reached) != place[axis]):
            return []
    return axes


def resizing(call: Call) -> str | None:
    """Find resizing whose sample points are not symmetric about the centre."""
    m, x = call.module, call.x
    if not isinstance(m, nn.Upsample) or m.mode != "nearest" or x is None or not isinstance(call.output, Tensor):
        return None
    if any(b % a for a, b in zip(x.shape[-2:], call.output.shape[-2:])):
        sizes = tuple(x.shape[-2:]), tuple(call.output.shape[-2:])
        return f"nearest pixel from size {sizes[0]} to {sizes[1]}, odd or even: not centred; use pdegcnn.nn.Resample"
    return None


def unsampled_angle(call: Call) -> str | None:
    """Find errors of interpolation: they vanish at an angle that maps samples to samples."""
    motion = call.motion
    if not isinstance(motion, GridMotion) or "angle" not in motion.options or motion.exact:
        return None
    spaces: list[Any] = [s for s in motion.spaces if isinstance(s, GridSpace)]
    counts = sorted({s.orientations for s in spaces if not motion.sampled(s.orientations)})
    square = motion.size[0] == motion.size[1]
    better = [a for a in (90, 180) if (square or a == 180) and GridMotion(spaces, {"angle": a}, _like(motion)).exact]
    if not better and not any(getattr(call.module, "space", None) is s for s in spaces):
        return None
    if better:
        exact = GridMotion(motion.spaces, {"angle": better[0]}, _like(motion))
        if not call.error(exact) < exact.tolerance:
            return None
    if counts:
        return (
            f"unsampled angle: {motion.turn:g} degrees is not a multiple of 360/{counts[0]}, so orientations are "
            f"interpolated; take orientations of which {motion.turn:g} degrees is a multiple (multiples of four for 90)"
        )
    return f"unsampled angle: {motion.turn:g} degrees puts pixels between pixels; exact at {better[0]} degrees"


def _like(motion: GridMotion) -> Tensor:
    return torch.empty(1, 1, *motion.size)


def gauge_dependence(call: Call) -> str | None:
    """Find layers that read components in the reference directions."""
    if isinstance(call.motion, RelabelMotion):
        return "depends on the numbers of the vertices, which mean nothing: reads places one by one"
    if not isinstance(call.motion, GaugeMotion):
        return None
    if any(u.is_complex() for u in tensors(list(call.args))):
        return "depends on the reference directions: acts on real and imaginary parts of a spin, or mixes spins"
    return "depends on the reference directions: treats directions (axis 2 of [B,C,Or,V]) one by one"


def sampling(call: Call) -> str | None:
    """Find an error that only a finer grid lowers."""
    kind = type(call.module).__module__
    if call.motion.exact:
        return None
    if kind == "torch.nn.modules.activation" and isinstance(call.motion, RotationMotion):
        return "pointwise on samples: makes degrees beyond the band; use pdegcnn.nn.SphereActivation, or a finer grid"
    if kind.startswith("pdegcnn."):
        return "sampling: the grid does not resolve the signal; take a smoother input or a finer grid"
    return None


def unknown(call: Call) -> str:
    """Report an unknown cause, with the result of two experiments on the dependence on position."""
    x = call.x
    if x is not None and x.ndim >= 3 and isinstance(call.output, Tensor) and call.output.ndim == x.ndim:
        flat = call.run((torch.ones_like(x), *call.args[1:]))
        space = slice(x.ndim - call.grid_axes, x.ndim)
        if isinstance(flat, Tensor) and flat.numel() and _varies(flat, range(x.ndim)[space]):
            return "its own code depends on the place: a constant input gives an output that is not constant"
    inside = isinstance(call.module, nn.Module) and any(True for _ in call.module.children())
    what = "what its forward does between its parts" if inside else "its own code"
    return f"{what} does not commute with the motion"


def _varies(u: Tensor, axes: Any) -> bool:
    spread = u.amax(tuple(axes)) - u.amin(tuple(axes))
    return bool((spread > 1e-4 * u.abs().amax().clamp_min(1e-12)).any())


def merged_orientations(call: Call) -> str | None:
    """Find orientations that were merged with the channels and are treated differently."""
    if isinstance(call.motion, GridMotion) and call.motion.folded:
        count = call.motion.folded
        return f"channels and {count} orientations were joined to one axis and told apart; keep [B,C,Or,H,W]"
    return None


CAUSES: dict[str, Callable[[Call], str | None]] = {
    "stride": stride,
    "padding": padding,
    "plain convolution": plain_convolution,
    "normalisation": normalisation,
    "plain mean": plain_mean,
    "flattening": flattening,
    "resizing": resizing,
    "unsampled angle": unsampled_angle,
    "wrong axis": wrong_axis,
    "gauge": gauge_dependence,
    "joined orientations": merged_orientations,
    "sampling": sampling,
    "own code": unknown,
}
"""Causes in the order in which they are tested."""
UNKNOWN = ("sampling", "own code")
"""Causes that do not point to a mistake in the layer."""


def diagnose(call: Call) -> tuple[str, str]:
    """Return the name of the first cause found and its message."""
    for name, test in CAUSES.items():
        with torch.no_grad():
            message = test(call)
        if message:
            return name, message
    return "own code", "its own code does not commute with the motion"
