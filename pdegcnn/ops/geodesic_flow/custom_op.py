"""The flow along geodesics as a torch operator, for the CPU."""

from __future__ import annotations

from torch import Tensor

from pdegcnn import _transforms
from pdegcnn.ops._operator import implementation, operator
from pdegcnn.ops.geodesic_flow import geodesic_tracing as tracing


@operator("pdegcnn::geodesic_flow")
def read(u: Tensor, path: Tensor, tables: list[Tensor]) -> Tensor:
    """Read u [B,C,Or,V] at the ends of the paths (radius, heading, turn) [C,3] in float64; half-edge tables."""
    return implementation("geodesic_flow", "numba").forward(u, tables, path, tracing.MOST_TRIANGLES)


@read.register_fake
def _(u: Tensor, path: Tensor, tables: list[Tensor]) -> Tensor:
    return u.new_empty(u.shape)


# Gradients in batches (``is_grads_batched``) do not reach operators that take lists, so each table is an argument.
@operator("pdegcnn::geodesic_flow_backward")
def read_backward(
    grad: Tensor,
    u: Tensor,
    path: Tensor,
    learn: bool,
    keys: Tensor,
    fans: Tensor,
    tail: Tensor,
    following: Tensor,
    previous: Tensor,
    twin: Tensor,
    length: Tensor,
    corner: Tensor,
    angle: Tensor,
    transport: Tensor,
    scale: Tensor,
    gauge: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return gradients in the signal and (with ``learn``, else zero) in the paths."""
    tables = keys, fans, tail, following, previous, twin, length, corner, angle, transport, scale, gauge
    return implementation("geodesic_flow", "numba").backward(grad, u, tables, path, tracing.MOST_TRIANGLES, learn)


@read_backward.register_fake
def _(grad: Tensor, u: Tensor, path: Tensor, learn: bool, *tables: Tensor) -> tuple[Tensor, Tensor]:
    return u.new_empty(u.shape), path.new_empty(path.shape)


def _setup(ctx, inputs, output) -> None:
    u, path, tables = inputs
    ctx.save_for_backward(u, path, *tables)


def _backward(ctx, grad):
    u, path, *tables = ctx.saved_tensors
    grad_u, grad_path = read_backward(grad.contiguous(), u, path, ctx.needs_input_grad[1], *tables)
    return grad_u, grad_path if ctx.needs_input_grad[1] else None, [None] * len(tables)


def _setup_backward(ctx, inputs, output) -> None:
    grad, u, path, _, *tables = inputs
    ctx.save_for_backward(grad, u, path, *tables)


def _double_backward(ctx, *along):
    """Compute second derivatives through the specification: they are rare, so speed does not matter."""
    grad, u, path, *tables = ctx.saved_tensors

    def specification(u: Tensor, path: Tensor) -> Tensor:
        return tracing.flow(u, tracing.HalfEdges._make(tables), path, "numba")

    return *_transforms.pull_again(specification, grad, (u, path), along), None, *[None] * len(tables)


read.register_autograd(_backward, setup_context=_setup)
read_backward.register_autograd(_double_backward, setup_context=_setup_backward)
