"""Symmetric layers f(y) = -K^T act(K y + b), full or block-low-rank, with their adjoint written by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight

from pdegcnn import _checks as check

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
WEIGHT_GRADIENT = {1: conv1d_weight, 2: conv2d_weight, 3: conv3d_weight}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "silu": F.silu,
    "softplus": F.softplus,
    "identity": lambda x: x.clone(),
}


class SymmetricConv(nn.Module):
    """The symmetric layer ``f(y) = -K^T act(K y + b)`` on signals [B,channels,*space], zero outside the image.

    K is a convolution from ``channels`` to ``rank`` channels. With ``rank < channels``, ``K^T K`` is a block matrix of
    channels x channels convolutions of rank at most ``rank``: block-low-rank, with ``channels * rank * k^dims``
    numbers instead of ``channels^2 * k^dims``. Its Jacobian ``-K^T diag(act') K`` is symmetric, and negative
    semi-definite for a monotone ``act``.
    Sources: arXiv 1905.10484, eq. 7; Peters, Haber, Lensink, arXiv 1912.12137, eqs. 9-11.

    Args:
        channels: channels of y.
        kernel_size: odd size, or one odd size per axis.
        dims: number of space axes, 1 to 3.
        rank: channels of K y; ``channels`` unless told.
        activation: ``"relu"``, ``"tanh"``, ``"silu"``, ``"softplus"`` or ``"identity"``.
        init_norm: spectral norm of K after `reset_parameters`, at most. A stack of depth-varying layers starts stably
            when ``h^2 init_norm^2 <= 0.05``.
        device: where the parameters live.
        dtype: their dtype.

    Raises:
        ValueError: a size out of range, or an input with other channels or rank.
        TypeError: an argument of another type.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int] = 3,
        dims: int = 2,
        rank: int | None = None,
        activation: str = "relu",
        init_norm: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels = check.positive_int("channels", channels)
        self.dims = check.choice("dims", dims, (1, 2, 3))
        self.rank = self.channels if rank is None else check.positive_int("rank", rank)
        sizes = (kernel_size,) * dims if isinstance(kernel_size, int) else tuple(kernel_size)
        if len(sizes) != dims:
            raise ValueError(f"kernel_size: expected one size or {dims} sizes, got {sizes}")
        check.odd("kernel_size", sizes)
        self.kernel_size = sizes
        self.activation = check.choice("activation", activation, tuple(ACTIVATIONS))
        check.interval("init_norm", init_norm, 0.0, math.inf, open_low=True)
        self.init_norm = init_norm
        self.weight = nn.Parameter(torch.empty(self.rank, self.channels, *sizes, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(self.rank, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Random K of spectral norm at most ``init_norm``; b = 0."""
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)
        with torch.no_grad():
            if not self.weight.is_meta:
                self.weight.mul_(self.init_norm / self.norm_bound().clamp_min(1e-30))

    def extra_repr(self) -> str:
        """The sizes of the layer."""
        return f"{self.channels}, kernel_size={self.kernel_size}, rank={self.rank}, activation={self.activation!r}"

    def norm_bound(self) -> Tensor:
        """An upper bound of the spectral norm of K: that of its unfoldings, times the square root of the kernel's size.

        Source: Singla, Feizi, *Fantastic Four*, arXiv 1911.10258, theorem 1 (two of its four unfoldings).
        """
        taps = math.prod(self.kernel_size)
        w = self.weight.flatten(2)
        norms = (torch.linalg.matrix_norm(m, 2) for m in (w.flatten(1), w.transpose(0, 1).flatten(1)))
        return math.sqrt(taps) * torch.minimum(*norms)

    @torch.no_grad()
    def cap_norm(self, limit: float) -> None:
        """Scale K down, if needed, so that `norm_bound` is at most ``limit`` (call it after an optimiser's step)."""
        self.weight.mul_((limit / self.norm_bound().clamp_min(1e-30)).clamp_max(1.0))

    def _padding(self) -> tuple[int, ...]:
        return tuple(k // 2 for k in self.kernel_size)

    def forward(self, y: Tensor) -> Tensor:
        """Map [B,channels,*space] to the same shape."""
        check.tensor("y", y, self.dims + 2, "[B,C,*space]")
        if y.shape[1] != self.channels:
            raise ValueError(f"y: expected {self.channels} channels, got shape {tuple(y.shape)}")
        z = CONV[self.dims](y, self.weight, self.bias, padding=self._padding())
        return -TRANSPOSED[self.dims](ACTIVATIONS[self.activation](z), self.weight, padding=self._padding())

    def value_and_vjp(
        self, y: Tensor, g: Tensor, values: Mapping[str, Tensor], wanted: Mapping[str, bool]
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """``f(y)``, ``J_f(y)^T g`` and the parameters' gradients, written by hand.

        With ``s = act'(Ky + b) * Kg``: ``J_f^T g = -K^T s``, ``db = -sum s``,
        ``dK = -(act(Ky + b) (x) Kg-input g + s (x) y)`` (arXiv 1905.10484, section 4). Needs no graph of a convolution.

        Args:
            y: state [B,channels,*space].
            g: cotangent, of the same shape.
            values: parameters ``weight`` and ``bias``.
            wanted: for each of them, whether its gradient is wanted.
        """
        weight, bias, pad = values["weight"], values["bias"], self._padding()
        with torch.enable_grad():
            z = CONV[self.dims](y, weight.detach(), bias.detach(), padding=pad).requires_grad_()
            a = ACTIVATIONS[self.activation](z)
        (s,) = torch.autograd.grad(a, z, CONV[self.dims](g, weight.detach(), padding=pad))
        a = a.detach()
        del z
        found: dict[str, Tensor] = {}
        with torch.no_grad():
            if wanted.get("weight"):
                dw = WEIGHT_GRADIENT[self.dims](y, weight.shape, s, padding=pad)  # pyright: ignore
                found["weight"] = dw.add_(WEIGHT_GRADIENT[self.dims](g, weight.shape, a, padding=pad)).neg_()  # pyright: ignore
            if wanted.get("bias"):
                found["bias"] = -s.sum([0, *range(2, s.ndim)])
            out = TRANSPOSED[self.dims](a, weight, padding=pad).neg_()
            del a
            return out, TRANSPOSED[self.dims](s, weight, padding=pad).neg_(), found
