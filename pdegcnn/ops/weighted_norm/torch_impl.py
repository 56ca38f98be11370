"""The weighted norm in plain torch, with the gradient in closed form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pdegcnn import _transforms
from pdegcnn._typing import Function, linalg
from pdegcnn.ops.weighted_norm.reference import moments, per_channel


class WeightedNorm(Function):
    """The specification; autograd's own chain of its operations takes more than twice the passes over memory."""

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, weights: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return the normalised signals and the moments."""
        mean, centred, variance = moments(u, weights)
        factor = per_channel(scale * (variance + eps).rsqrt(), u)
        return torch.addcmul(per_channel(shift, u), centred, factor), mean, variance

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        """Keep what the gradient needs."""
        u, weights, scale, _, ctx.eps = inputs
        _, mean, variance = output
        ctx.mark_non_differentiable(mean, variance)
        ctx.save_for_backward(u, weights, scale, mean, variance)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients."""
        grad = grads[0]
        _transforms.refuse_batches("BatchNorm(space=...)", grad)
        u, weights, scale, mean, variance = ctx.saved_tensors
        if torch.is_grad_enabled():  # second derivatives need these dependencies
            _, centred, variance = moments(u, weights)
        else:
            centred = u - per_channel(mean, u)
        rate, count = (variance + ctx.eps).rsqrt(), u.numel() // u.shape[1]
        total = grad.flatten(2).sum((0, 2))
        along = linalg.vecdot(grad.flatten(2), centred.flatten(2)).sum(0)
        constant, slope = scale * rate * total / -count, scale * rate**3 * along / -count
        back = torch.addcmul(per_channel(constant, u), centred, per_channel(slope, u)) * weights
        grad_u = torch.addcmul(back, grad, per_channel(scale * rate, u))
        return grad_u, None, rate * along, total, None
