"""The gathered mean as a torch operator with a Numba and a Triton backend."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pdegcnn import _transforms
from pdegcnn.ops._operator import implementation, operator
from pdegcnn.ops.directional_neighbors import DirectionalNeighbors
from pdegcnn.ops.gather_mean import reference

SYMMETRIC = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


def _rows(u: Tensor) -> Tensor:
    """Rearrange ``[B,C,Or,V] -> [B,C*V,N]``."""
    return u.transpose(2, 3).flatten(1, 2).contiguous()


def _back(rows: Tensor, shape: torch.Size) -> Tensor:
    return rows.view(shape[0], shape[1], shape[3], shape[2]).transpose(2, 3).contiguous()


def tap_table(count: int, taps: int, dtype: torch.dtype) -> Tensor:
    """Return a table ``[4, taps*N]`` for every step s and direction i.

    It holds cosine and sine of the direction half-way between the two,
    the turn of the step, and the share of the tap (a half at the ends of a full circle, which meet).
    """
    step = torch.arange(taps, dtype=torch.float64)[:, None] - taps // 2
    between = (2 * torch.arange(count, dtype=torch.float64) + step) * (math.pi / count)
    turn = step * (2 * math.pi / count)
    share = torch.ones(taps, 1, dtype=torch.float64)
    if taps == count + 1:
        share[0] = share[-1] = 0.5
    rows = torch.broadcast_tensors(between.cos(), between.sin(), turn, share)
    return torch.stack(rows).flatten(1).to(dtype).contiguous()


@operator("pdegcnn::gather_mean")
def mean(
    u: Tensor,
    start: Tensor,
    columns: Tensor,
    offset: Tensor,
    turn: Tensor,
    steps: Tensor,
    areas: Tensor,
    most: int,
    matrix: Tensor,
    profile: Tensor,
    reach: float,
    taps: int,
    backend: str = "numba",
) -> tuple[Tensor, Tensor]:
    """Return the mean [B,C,Or,V] and the sums of weights, [C*V,N] in the order of the version that runs."""
    lists = (start, columns, offset, turn, steps, areas)
    if backend == "triton":
        rows = _rows(u)
        out, total = torch.empty_like(rows), torch.empty_like(rows[0])
        _triton((rows, rows, rows), lists, matrix, profile, reach, (out, total, total), most, taps, False)
        return _back(out, u.shape), total
    geometry = matrix, tap_table(u.shape[2], taps, profile.dtype), profile
    return implementation("gather_mean", backend).forward(u, lists, geometry, reach, taps, most)


@mean.register_fake
def _(u, start, columns, offset, turn, steps, areas, most, matrix, profile, reach, taps, backend="numba"):
    return u.new_empty(u.shape), u.new_empty(u.shape[1] * u.shape[3], u.shape[2])


@operator("pdegcnn::gather_mean_backward")
def mean_backward(
    grad: Tensor,
    u: Tensor,
    out: Tensor,
    total: Tensor,
    start: Tensor,
    columns: Tensor,
    offset: Tensor,
    turn: Tensor,
    steps: Tensor,
    areas: Tensor,
    matrix: Tensor,
    profile: Tensor,
    reach: float,
    taps: int,
    learn: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients in the signal, the metric and (with ``learn``, else zero; by Numba only) the profile."""
    most, lists = int(start.diff().max()), (start, columns, offset, turn, steps, areas)
    if backend == "triton":
        from pdegcnn.ops.gather_mean import triton_impl

        fields = (_rows(u), _rows(grad) / total, _rows(out))
        grad_u = torch.empty_like(fields[1])
        sums = torch.empty(triton_impl.parts(fields[0], u.shape[1]), 6, dtype=torch.float64, device=u.device)
        _triton(fields, lists, matrix, profile, reach, (grad_u, total, sums), most, taps, True)
        sums = sums.view(u.shape[0], u.shape[1], -1, 6).sum((0, 2))
        return _back(grad_u, u.shape), _symmetric(sums, matrix), torch.zeros_like(profile)
    geometry = matrix, tap_table(u.shape[2], taps, profile.dtype), profile
    module = implementation("gather_mean", backend)
    grad_u, sums, samples = module.backward((grad, u, out, total), lists, geometry, reach, taps, most, learn)
    grad_profile = samples.to(profile.dtype) if learn else torch.zeros_like(profile)
    return grad_u, _symmetric(sums, matrix), grad_profile


def _symmetric(sums: Tensor, like: Tensor) -> Tensor:
    """Return matrices [C,3,3] whose entries in the order of SYMMETRIC are given, [C,6]."""
    made = torch.zeros_like(like)
    for (i, j), entry in zip(SYMMETRIC, sums.to(like.dtype).unbind(1)):
        made[:, i, j] = made[:, j, i] = entry
    return made


def _triton(
    fields: tuple[Tensor, ...],
    lists: tuple[Tensor, ...],
    matrix: Tensor,
    profile: Tensor,
    reach: float,
    results: tuple[Tensor, ...],
    most: int,
    taps: int,
    back: bool,
) -> None:
    """Fill ``results`` by the Triton version."""
    from pdegcnn.ops.gather_mean import triton_impl

    table = tap_table(fields[0].shape[2], taps, profile.dtype).to(profile.device)
    scale = profile.new_full((1,), (profile.numel() - 1) / reach)  # a number would be passed in float32
    geometry = (matrix, table, profile, scale)
    triton_impl.run(fields, lists, geometry, results, matrix.shape[0], most, taps, back)


@mean_backward.register_fake
def _(grad, u, out, total, start, columns, offset, turn, steps, areas, matrix, profile, reach, taps, learn, backend):
    return u.new_empty(u.shape), matrix.new_empty(matrix.shape), profile.new_empty(profile.shape)


def _setup(ctx, inputs, output) -> None:
    u, *lists, _, matrix, profile, ctx.reach, ctx.taps, ctx.backend = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(u, *output, *lists, matrix, profile)


def _backward(ctx, grad, _):
    learn = ctx.needs_input_grad[9]
    found = mean_backward(grad.contiguous(), *ctx.saved_tensors, ctx.reach, ctx.taps, learn, ctx.backend)
    return found[0], *(None,) * 7, found[1], found[2] if learn else None, None, None, None


def _setup_backward(ctx, inputs, output) -> None:
    grad, u, _, _, *lists, matrix, profile, ctx.reach, ctx.taps, _, _ = inputs
    ctx.save_for_backward(grad, u, matrix, profile, *lists)


def _double_backward(ctx, *along):
    """Compute second derivatives through the specification: they are rare, so speed does not matter."""
    grad, u, matrix, profile, *lists = ctx.saved_tensors
    bundle = DirectionalNeighbors._make((*lists, int(lists[0].diff().max())))

    def specification(u: Tensor, matrix: Tensor, profile: Tensor) -> Tensor:
        return reference.gather_mean(u, bundle, matrix, profile, ctx.reach, ctx.taps)

    found = _transforms.pull_again(specification, grad, (u, matrix, profile), along)
    return *found[:2], *(None,) * 8, *found[2:], None, None, None, None


mean.register_autograd(_backward, setup_context=_setup)
mean_backward.register_autograd(_double_backward, setup_context=_setup_backward)
