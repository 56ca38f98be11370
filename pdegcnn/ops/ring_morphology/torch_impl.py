"""Max-plus convolution on rings in plain torch on any device: gathers and comparisons, backward by winning tap."""

from __future__ import annotations

import torch
from torch import Tensor

from pdegcnn._dtypes import wide_dtype


def forward(
    u: Tensor, kernel: Tensor, taps: Tensor, start: Tensor, sign: int, keep: bool, index_dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return values, and the winning taps (numbered within their ring) where ``keep`` (else an empty tensor)."""
    dtype = wide_dtype(u.dtype)
    source, weights = sign * u.to(dtype), kernel.to(dtype)
    fibre, _, length = u.shape[2:]
    counts = start.diff()
    best = torch.full(u.shape, -torch.inf, dtype=dtype, device=u.device)
    winner = torch.full(u.shape if keep else (0,), torch.iinfo(index_dtype).max, dtype=index_dtype, device=u.device)
    f = torch.arange(fibre, device=u.device)[:, None, None]
    j = torch.arange(length, device=u.device)
    for t in range(int(counts.max())):
        rings = (counts > t).nonzero()[:, 0]
        chosen = start[rings] + t
        ring, df, dj = taps[chosen].T[:, :, None]
        value = source[:, :, (f + df) % fibre, ring, (j + dj) % length]  # [B,C,F,rings,n]
        weight = weights[:, :, chosen, None]
        value = torch.where(weight == torch.inf, -torch.inf, value - weight)
        old = best[:, :, :, rings]
        wins = (value > old) | (value.isnan() & ~old.isnan())
        best[:, :, :, rings] = torch.where(wins, value, old)
        if keep:
            winner[:, :, :, rings] = winner[:, :, :, rings].masked_fill(wins, t)
    return (sign * best).to(u.dtype), winner


def sources(winner: Tensor, taps: Tensor, start: Tensor, kernels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return flat source positions in [F*G*n], kernel positions in [kernels*S], and whether a tap won."""
    fibre, rings, length = winner.shape[2:]
    won = winner != torch.iinfo(winner.dtype).max
    f, g, j = torch.meshgrid(*(torch.arange(n, device=winner.device) for n in winner.shape[2:]), indexing="ij")
    tap = start[:-1][g] + torch.where(won, winner.long(), 0)
    tap = tap.clamp(max=taps.shape[0] - 1)
    ring, df, dj = taps[tap].unbind(-1)
    position = ((f + df) % fibre * rings + ring) * length + (j + dj) % length
    return position, (f % kernels) * taps.shape[0] + tap, won


def backward(grad: Tensor, winner: Tensor, taps: Tensor, start: Tensor, kernels: int) -> tuple[Tensor, Tensor]:
    """Return the gradient in u, and the sum of ``grad`` over the outputs of each kernel entry, ``[C,kernels,S]``."""
    dtype = wide_dtype(grad.dtype)
    position, entry, won = sources(winner, taps, start, kernels)
    flow = torch.where(won, grad.to(dtype), 0)
    grad_u = torch.zeros(grad.shape, dtype=dtype, device=grad.device).flatten(2)
    grad_u.scatter_add_(2, position.flatten(2), flow.flatten(2))
    sums = torch.zeros(grad.shape[1], kernels * taps.shape[0], dtype=torch.float64, device=grad.device)
    for b in range(grad.shape[0]):
        sums.scatter_add_(1, entry[b].flatten(1), flow[b].double().flatten(1))
    return grad_u.view(grad.shape).to(grad.dtype), sums.view(-1, kernels, taps.shape[0]).to(grad.dtype)


def read(winner: Tensor, u: Tensor, kernel: Tensor, taps: Tensor, start: Tensor, sign: int) -> Tensor:
    """Read the value of every output at its winning tap by differentiable torch."""
    position, entry, won = sources(winner, taps, start, kernel.shape[1])
    from_u = u.flatten(2).gather(2, position.flatten(2))
    from_kernel = kernel.flatten(1).expand(u.shape[0], -1, -1).gather(2, entry.flatten(2))
    return torch.where(won, (from_u - sign * from_kernel).view(u.shape), -sign * torch.inf)
