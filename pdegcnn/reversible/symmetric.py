"""Symmetric layers f(y) = -K^T act(K y + b), full or block-low-rank, with their adjoint written by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight

from pdegcnn import _checks as check
from pdegcnn.reversible.strips import ONEDNN_FROM, Piece, assembled, in_strips, least_rows

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
aten = torch.ops.aten
PULLS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "relu": lambda s, z: aten.threshold_backward.grad_input(s, z, 0, grad_input=s),
    "tanh": lambda s, z: aten.tanh_backward.grad_input(s, z.tanh(), grad_input=s),
    "silu": lambda s, z: aten.silu_backward.grad_input(s, z, grad_input=s),
    "softplus": lambda s, z: aten.softplus_backward.grad_input(s, z, 1.0, 20.0, grad_input=s),
    "identity": lambda s, z: s,
}
"""``act'(z) * s``, written over s."""
IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,
    "tanh": torch.tanh_,
    "silu": lambda z: F.silu(z, inplace=True),
    "softplus": lambda z: aten.softplus.out(z, 1.0, 20.0, out=z),
    "identity": lambda z: z,
}


SMALL_BELOW = 4
"""K y counts as small when it has this many times fewer channels than y."""
LANES = 16
"""Pieces of K^T are multiples of this many channels: the vectors of a processor."""


def needs_float32(y: Tensor, sizes: Sequence[int]) -> bool:
    """Return whether a convolution of y is to run in float32 on the CPU though bfloat16 was asked for.

    In torch 2.13 the gradient of a kernel longer than the volume on some axis has uninitialised memory.
    """
    if y.ndim != 5 or y.device.type != "cpu" or all(n >= k for n, k in zip(y.shape[2:], sizes)):
        return False
    cast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return y.dtype == torch.bfloat16 or cast


def adjoint(z: Tensor, kernel: Tensor, padding: tuple[int, ...]) -> Tensor:
    """Return ``K^T z``; on the CPU a single volume is padded by empty channels, which avoids unfolding to columns."""
    dims = kernel.ndim - 2
    if dims == 3 and z.shape[0] == 1 and z.dtype == torch.float32 and z.device.type in ("cpu", "meta"):
        empty = ONEDNN_FROM // (z.shape[2] * z.shape[3]) + 1 - z.shape[1]
        worth = 4 * (z.shape[1] + empty) <= math.prod(
            z.shape[2:]
        )  # on tiny volumes the kernel is larger than the columns
        if worth and 0 < empty <= 9 * kernel.shape[1]:
            z, kernel = F.pad(z, (*(0, 0) * 3, 0, empty)), F.pad(kernel, (*(0, 0) * 4, 0, empty))
    return TRANSPOSED[dims](z, kernel, padding=padding)


@torch.no_grad()
def symmetric_vjp(
    y: Tensor, g: Tensor, kernel: Tensor, bias: Tensor, activation: str, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Return ``f(y)`` and ``J_f(y)^T g`` of ``f(y) = -K^T act(K y + b)``, gradients of the kernel and of b, by hand.

    With ``s = act'(Ky + b) * Kg``: ``J_f^T g = -K^T s``, ``db = -sum s``, ``dK = -(act(Ky + b) (x) g + s (x) y)``
    (Lensink, Peters, Haber, arXiv 1905.10484, section 4). At most three tensors of the size of y or K y are held.

    Args:
        y: state [B,C,*space].
        g: cotangent, of the same shape.
        kernel: K [rank,C,*k], odd sizes.
        bias: b [rank].
        activation: a key of ``ACTIVATIONS``.
        wanted: whether the gradients of the kernel and of b are wanted.
    """
    if needs_float32(y, kernel.shape[2:]):
        with torch.autocast("cpu", enabled=False):
            out, pulled, dk, db = symmetric_vjp(y.float(), g.float(), kernel.float(), bias.float(), activation, wanted)
        dk, db = None if dk is None else dk.to(kernel.dtype), None if db is None else db.to(bias.dtype)
        return out.to(y.dtype), pulled.to(y.dtype), dk, db
    dims, pad = kernel.ndim - 2, tuple(k // 2 for k in kernel.shape[2:])
    z, s = CONV[dims](y, kernel, bias, padding=pad), CONV[dims](g, kernel, padding=pad)
    s = PULLS[activation](s, z)
    a = IN_PLACE[activation](z)
    del z
    dk = db = None
    if wanted[0]:
        dk = WEIGHT_GRADIENT[dims](y, kernel.shape, s, padding=pad)  # pyright: ignore
        dk = dk.add_(WEIGHT_GRADIENT[dims](g, kernel.shape, a, padding=pad)).neg_()  # pyright: ignore
    if wanted[1]:
        db = -s.sum([0, *range(2, s.ndim)])
    out = adjoint(a, kernel, pad).neg_()
    del a
    return out, adjoint(s, kernel, pad).neg_(), dk, db


@torch.no_grad()
def symmetric_value(y: Tensor, kernel: Tensor, bias: Tensor, activation: str, first: Tensor | None = None) -> Tensor:
    """Return ``-K^T act(K y + b)`` on [B,C,*space]; nothing is kept for a backward pass.

    This saves three tensors at the peak.

    The kernel ``first``, if given, takes the place of K in front of the activation.
    """
    pad = tuple(k // 2 for k in kernel.shape[2:])
    return adjoint(_inner(y, kernel if first is None else first, bias, activation), kernel, pad).neg_()


def _inner(y: Tensor, kernel: Tensor, bias: Tensor, activation: str) -> Tensor:
    pad = tuple(k // 2 for k in kernel.shape[2:])
    return IN_PLACE[activation](CONV[kernel.ndim - 2](y, kernel, bias, padding=pad))


def symmetric_pieces(
    y: Tensor, kernel: Tensor, bias: Tensor, activation: str, unit: int = 1, first: Tensor | None = None
) -> Iterator[Piece]:
    """Compute `symmetric_value` piece by piece.

    Where K y is small, K runs strip by strip and K^T for an eighth of the channels at a time, a multiple of ``unit``;
    else both run on strips.
    """
    dims, pad = kernel.ndim - 2, tuple(k // 2 for k in kernel.shape[2:])
    rank, channels = kernel.shape[:2]

    def inner(part: Tensor) -> Tensor:
        return _inner(part, kernel if first is None else first, bias, activation)

    def whole(part: Tensor) -> Tensor:
        return symmetric_value(part, kernel, bias, activation, first)

    lanes = math.lcm(LANES, unit)
    if dims == 2 and SMALL_BELOW * rank <= channels and 8 * lanes <= channels:
        z = assembled(in_strips(inner, y, -dims, pad[0], least_rows(y.shape, channels, dims), 10), y, -dims)
        group = lanes * (channels // (8 * lanes))
        for low in range(0, channels, group):
            high = min(low + group, channels)
            yield Piece(1, low, high, adjoint(z, kernel[:, low:high], pad).neg_())
    elif 4 * kernel.numel() > y.numel():  # every strip would have its own copy of K
        yield Piece(1, 0, channels, whole(y))
    else:
        least = max(kernel.shape[2], least_rows(y.shape, min(rank, channels), dims))
        yield from in_strips(whole, y, -dims, 2 * pad[0], least)


def unfolding_bound(kernel: Tensor) -> Tensor:
    """Return an upper bound of the spectral norm of the convolution with ``kernel`` [C',C,*k].

    The smaller norm of two unfoldings, times the square root of the kernel's size. Source: Singla, Feizi,
    *Fantastic Four*, arXiv 1911.10258, theorem 1 (two of its four unfoldings).
    """
    w = kernel.flatten(2)
    w = w.float() if w.dtype.itemsize < 4 else w  # torch has no norm of half precision
    norms = (torch.linalg.matrix_norm(m, 2) for m in (w.flatten(1), w.transpose(0, 1).flatten(1)))
    return math.sqrt(w.shape[2]) * torch.minimum(*norms).to(kernel.dtype)


class SymmetricConv(nn.Module):
    r"""The symmetric layer :math:`f(y) = -K^T \sigma(K y + b)` on signals ``[B,channels,*space]``.

    K is a convolution from ``channels`` to ``rank`` channels, with zeros outside the image. For ``rank < channels``,
    :math:`K^T K` is a block matrix of channels x channels convolutions of rank at most ``rank`` (block-low-rank), with
    ``channels * rank * k^dims`` parameters instead of ``channels^2 * k^dims``. The Jacobian
    :math:`-K^T \operatorname{diag}(\sigma') K` is symmetric, and negative semidefinite if :math:`\sigma` is monotone.
    Sources: arXiv 1905.10484, eq. 7; Peters, Haber, Lensink, arXiv 1912.12137, eqs. 9-11.

    Args:
        channels: channels of y.
        kernel_size: odd size, or one odd size per axis.
        dims: number of space axes, 1 to 3.
        rank: channels of K y; None: ``channels``.
        activation: ``"relu"``, ``"tanh"``, ``"silu"``, ``"softplus"`` or ``"identity"``.
        init_norm: upper bound of the spectral norm of K after `reset_parameters`. A stack of layers that vary in depth
            starts stably if ``h^2 init_norm^2 <= 0.05``.
        device: where the parameters live.
        dtype: their dtype.

    Raises:
        ValueError: for a size out of range, or an input with other channels or rank.
        TypeError: if an argument has the wrong type.
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
        self.kernel_size = sizes = check.odd_sizes("kernel_size", kernel_size, dims)
        self.activation = check.choice("activation", activation, tuple(ACTIVATIONS))
        self.init_norm = check.plain_number("init_norm", init_norm, 0.0, math.inf, open_low=True)
        self.weight = nn.Parameter(torch.empty(self.rank, self.channels, *sizes, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(self.rank, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw K with a spectral norm of at most ``init_norm``; set b to zero."""
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)
        with torch.no_grad():
            if not self.weight.is_meta:
                self.weight.mul_(self.init_norm / self.norm_bound().clamp_min(1e-30))

    def extra_repr(self) -> str:
        """Return the sizes of the layer."""
        return f"{self.channels}, kernel_size={self.kernel_size}, rank={self.rank}, activation={self.activation!r}"

    def norm_bound(self) -> Tensor:
        """Return an upper bound of the spectral norm of K, from the norms of two unfoldings (arXiv 1911.10258)."""
        return unfolding_bound(self.weight)

    @torch.no_grad()
    def cap_norm(self, limit: float) -> None:
        """Scale K down if `norm_bound` exceeds ``limit``; call it after a step of the optimiser.

        Args:
            limit: greatest bound of the spectral norm, positive.

        Raises:
            ValueError: if ``limit`` is not a positive number.
        """
        check.number("limit", limit, 0.0, math.inf, open_low=True)
        self.weight.mul_((limit / self.norm_bound().clamp_min(1e-30)).clamp_max(1.0))

    def _padding(self) -> tuple[int, ...]:
        return tuple(k // 2 for k in self.kernel_size)

    def _check(self, y: Tensor) -> None:
        check.signal("y", y, self.dims + 2, "[B,C,*space]")
        check.channels("y", y, self.channels, "[B,C,*space]")
        check.for_weights("y", y, self.weight)

    def forward(self, y: Tensor) -> Tensor:
        """Map ``[B,channels,*space]`` to the same shape.

        Args:
            y: a state ``[B,channels,*space]``, with two axes of space for images and three for volumes.
        """
        self._check(y)
        if needs_float32(y, self.kernel_size):
            with torch.autocast("cpu", enabled=False):
                return self._apply_to(y.float(), self.weight.float(), self.bias.float()).to(y.dtype)
        return self._apply_to(y, self.weight, self.bias)

    def _apply_to(self, y: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return symmetric_value(y, weight, bias, self.activation)
        z = CONV[self.dims](y, weight, bias, padding=self._padding())
        return -adjoint(ACTIVATIONS[self.activation](z), weight, self._padding())

    def pieces(self, y: Tensor) -> Iterator[Piece]:
        """Compute `forward` without gradients piece by piece, with temporaries that are small beside y.

        Args:
            y: a state ``[B,channels,*space]``.

        Yields:
            Parts of the result with the axis and range that they fill.
        """
        if needs_float32(y, self.kernel_size):
            yield Piece(1, 0, self.channels, self(y))
            return
        self._check(y)
        yield from symmetric_pieces(y, self.weight, self.bias, self.activation)

    def value_and_vjp(
        self, y: Tensor, g: Tensor, values: Mapping[str, Tensor], wanted: Mapping[str, bool]
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return :math:`f(y)`, :math:`J_f(y)^T g` and the gradients of parameters, all new tensors.

        Args:
            y: state ``[B,channels,*space]``.
            g: cotangent, of the same shape.
            values: parameters ``weight`` and ``bias``.
            wanted: for each of them, whether its gradient is wanted.
        """
        asked = wanted.get("weight", False), wanted.get("bias", False)
        out, pulled, dk, db = symmetric_vjp(y, g, values["weight"], values["bias"], self.activation, asked)
        found = {"weight": dk, "bias": db}
        return out, pulled, {name: grad for name, grad in found.items() if grad is not None}
