"""The symmetric layer on regular fields of the rotation group C_N over the plane (SE(2) with N orientations)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pdegcnn import _checks as check
from pdegcnn._derived import Derived, Table
from pdegcnn.reversible.strips import Piece
from pdegcnn.reversible.symmetric import (
    ACTIVATIONS,
    symmetric_pieces,
    symmetric_value,
    symmetric_vjp,
    unfolding_bound,
)


def turning(orientations: int, size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return matrices [Or, k*k, k*k] that turn a k x k kernel by ``2 pi o / Or``, from +x to +y (downwards).

    Bilinear interpolation, zero outside the disc of radius k/2; quarter turns permute the taps exactly.
    """
    half = size // 2
    out = torch.zeros(orientations, size, size, size, size, dtype=dtype)
    for o in range(orientations):
        angle = 2 * math.pi * o / orientations
        c, s = round(math.cos(angle), 12), round(math.sin(angle), 12)
        for i in range(size):
            for j in range(size):
                x, y = j - half, i - half
                if x * x + y * y > (size / 2) ** 2:
                    continue
                column, row = half + c * x + s * y, half - s * x + c * y
                for a in (math.floor(row), math.floor(row) + 1):
                    for b in (math.floor(column), math.floor(column) + 1):
                        share = max(0.0, 1 - abs(row - a)) * max(0.0, 1 - abs(column - b))
                        if 0 <= a < size and 0 <= b < size and share > 0:
                            out[o, i, j, a, b] += share
    return out.reshape(orientations, size * size, size * size)


class SymmetricGroupConv(Derived):
    r"""The symmetric layer :math:`f(u) = -K^T \sigma(K u + b)` with a group convolution K, on ``[B,channels,Or,H,W]``.

    K maps ``channels`` to ``rank`` regular fields with a kernel ``[rank,channels,Or,k,k]`` that is turned to each
    orientation. Its exact adjoint :math:`K^T` is a group convolution too, so f commutes with the rotations of the grid.
    Zero outside the image. Sources: arXiv 1912.12137, eq. 9; Cohen, Welling,
    *Group Equivariant Convolutional Networks*, arXiv 1602.07576, eq. 11.

    Args:
        channels: channels C.
        orientations: number Or of orientations; equivariance to quarter turns is exact if 4 divides it.
        kernel_size: odd spatial size.
        rank: channels of K u; None: ``channels``.
        activation: as in `SymmetricConv`.
        init_norm: upper bound of the spectral norm of K after `reset_parameters`.
        device: where the parameters live.
        dtype: their dtype.
    """

    turn: Tensor

    def __init__(
        self,
        channels: int,
        orientations: int,
        kernel_size: int = 3,
        rank: int | None = None,
        activation: str = "relu",
        init_norm: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels = check.positive_int("channels", channels)
        self.orientations = check.positive_int("orientations", orientations)
        self.rank = self.channels if rank is None else check.positive_int("rank", rank)
        check.odd("kernel_size", (check.positive_int("kernel_size", kernel_size),))
        self.kernel_size = kernel_size
        self.activation = check.choice("activation", activation, tuple(ACTIVATIONS))
        self.init_norm = check.plain_number("init_norm", init_norm, 0.0, math.inf, open_low=True)
        shape = (self.rank, self.channels, self.orientations, kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(self.rank, device=device, dtype=dtype))
        self._build(self.weight)
        self.reset_parameters()

    def _tables(self) -> list[Table]:
        return [("turn", None, lambda: turning(self.orientations, self.kernel_size))]

    def reset_parameters(self) -> None:
        """Draw K with a spectral norm of at most ``init_norm``; set b to zero."""
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)
        if not self.weight.is_meta:
            with torch.no_grad():
                self.weight.mul_(self.init_norm / self.norm_bound().clamp_min(1e-30))

    def extra_repr(self) -> str:
        """Return the sizes of the layer."""
        return f"{self.channels}, orientations={self.orientations}, kernel_size={self.kernel_size}, rank={self.rank}"

    def norm_bound(self) -> Tensor:
        """Return an upper bound of the spectral norm of K, from the norms of two unfoldings (arXiv 1911.10258)."""
        return unfolding_bound(self.kernel())

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

    def turned(self, weight: Tensor | None = None) -> Tensor:
        """Return the kernel at every orientation, ``[rank,channels,Or,Or,k,k]``: axes 2 orientation, 3 offset.

        Args:
            weight: parameters in the shape of ``self.weight``; None: the layer's.
        """
        weight, k = self.weight if weight is None else weight, self.kernel_size
        return torch.einsum("opq,rcdq->rcodp", self.turn, weight.flatten(3)).unflatten(-1, (k, k))

    def kernel(self, weight: Tensor | None = None) -> Tensor:
        """Return K as one planar kernel ``[rank*Or, channels*Or, k, k]``, of ``weight`` or the layer's own.

        Args:
            weight: parameters in the shape of ``self.weight``; None: the layer's.
        """
        n, k = self.orientations, self.kernel_size
        place = torch.arange(n, device=self.weight.device)
        offset = (place[None] - place[:, None]) % n
        full = self.turned(weight)[:, :, place[:, None], offset]
        return full.transpose(1, 2).reshape(self.rank * n, self.channels * n, k, k)

    def forward(self, u: Tensor) -> Tensor:
        """Map ``[B,channels,Or,H,W]`` to the same shape.

        Args:
            u: a regular field of the dtype and device of the parameters.

        Raises:
            ValueError: for another shape or device.
            TypeError: for another dtype.
        """
        self._check(u)
        kernel, pad = self.kernel(), self.kernel_size // 2
        bias = self.bias.repeat_interleave(self.orientations)
        if not torch.is_grad_enabled():
            return symmetric_value(u.flatten(1, 2), kernel, bias, self.activation).unflatten(1, u.shape[1:3])
        z = ACTIVATIONS[self.activation](F.conv2d(u.flatten(1, 2), kernel, bias, padding=pad))
        return -F.conv_transpose2d(z, kernel, padding=pad).unflatten(1, u.shape[1:3])

    def _check(self, u: Tensor) -> None:
        check.signal("u", u, 5, "[B,C,Or,H,W]")
        if u.shape[1:3] != (self.channels, self.orientations):
            raise ValueError(
                f"u: expected {self.channels} channels and {self.orientations} orientations, got shape {tuple(u.shape)}"
            )
        check.for_weights("u", u, self.weight)

    def pieces(self, u: Tensor) -> Iterator[Piece]:
        """Compute `forward` without gradients piece by piece, with temporaries that are small beside u.

        Args:
            u: a regular field ``[B,channels,Or,H,W]`` of the dtype and device of the parameters.

        Yields:
            Parts of the result with the axis and range that they fill.
        """
        self._check(u)
        n, bias = self.orientations, self.bias.repeat_interleave(self.orientations)
        for piece in symmetric_pieces(u.flatten(1, 2), self.kernel(), bias, self.activation, n):
            along = n if piece.axis == 1 else 1  # channels hold n planes each
            yield Piece(piece.axis, piece.first // along, piece.last // along, piece.part.unflatten(1, (-1, n)))
            del piece

    def value_and_vjp(
        self, y: Tensor, g: Tensor, values: Mapping[str, Tensor], wanted: Mapping[str, bool]
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return :math:`f(y)`, :math:`J_f(y)^T g` and gradients of parameters, as `SymmetricConv.value_and_vjp`.

        Args:
            y: state ``[B,channels,Or,H,W]``.
            g: cotangent, of the same shape.
            values: parameters ``weight`` and ``bias``.
            wanted: for each of them, whether its gradient is wanted.
        """
        asked = wanted.get("weight", False), wanted.get("bias", False)
        with torch.enable_grad():
            weight = values["weight"].detach().requires_grad_(asked[0])
            kernel = self.kernel(weight)
        bias = values["bias"].repeat_interleave(self.orientations)
        flat = y.flatten(1, 2), g.flatten(1, 2)
        out, pulled, dk, db = symmetric_vjp(*flat, kernel.detach(), bias, self.activation, asked)
        found = {}
        if dk is not None:
            (found["weight"],) = torch.autograd.grad(kernel, weight, dk)
        if db is not None:
            found["bias"] = db.unflatten(0, (self.rank, self.orientations)).sum(1)
        return out.unflatten(1, y.shape[1:3]), pulled.unflatten(1, y.shape[1:3]), found
