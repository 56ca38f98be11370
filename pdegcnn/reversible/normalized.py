"""Symmetric layers with batch norm inside."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pdegcnn import _checks as check
from pdegcnn.reversible.strips import Piece
from pdegcnn.reversible.symmetric import (
    ACTIVATIONS,
    CONV,
    SymmetricConv,
    adjoint,
    needs_float32,
    symmetric_pieces,
    symmetric_value,
)


class NormalizedSymmetricConv(SymmetricConv):
    r"""The symmetric layer :math:`f(y) = -K^T \sigma(N(K y))` on signals ``[B,channels,*space]`` with batch norm N.

    Without N, f and its derivative with respect to K are small if K is small, and a stack learns slowly; with N the
    scale of ``K y`` does not matter. In evaluation mode N is an affine map of each channel and is merged into the first
    kernel, so the layer runs piece by piece like `SymmetricConv`. In training mode the Jacobian is not symmetric,
    because N mixes samples. Each process takes the statistics of its own part of the batch. Sources: as for
    `SymmetricConv`; Ioffe, Szegedy, *Batch Normalization*, arXiv 1502.03167.

    Args:
        channels: as in `SymmetricConv`.
        kernel_size: as in `SymmetricConv`.
        dims: as in `SymmetricConv`.
        rank: as in `SymmetricConv`.
        activation: as in `SymmetricConv`.
        init_norm: as in `SymmetricConv`.
        momentum: weight of the latest batch in the running statistics, in [0, 1].
        eps: added to the variance, positive.
        device: where the parameters live.
        dtype: their dtype.

    Raises:
        ValueError: for a size out of range, an input of other channels or rank, or one value per channel in training.
        TypeError: if an argument has the wrong type.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int] = 3,
        dims: int = 2,
        rank: int | None = None,
        activation: str = "relu",
        init_norm: float = 1.0,
        momentum: float = 0.1,
        eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, kernel_size, dims, rank, activation, init_norm, device, dtype)
        check.number("momentum", momentum, 0.0, 1.0)
        check.number("eps", eps, 0.0, math.inf, open_low=True)
        self.momentum, self.eps = momentum, eps
        self.scale = nn.Parameter(torch.ones_like(self.bias))
        self.register_buffer("running_mean", torch.zeros_like(self.bias))
        self.register_buffer("running_var", torch.ones_like(self.bias))

    def reset_parameters(self) -> None:
        """Draw K with a spectral norm of at most ``init_norm``; reset N to the standard normalisation."""
        super().reset_parameters()
        if hasattr(self, "scale"):  # missing while `SymmetricConv` is constructed
            nn.init.ones_(self.scale)
            nn.init.zeros_(self.running_mean)
            nn.init.ones_(self.running_var)

    def _folded(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return K and b that ``N(K y)`` has in eval mode."""
        factor = self.scale.to(weight.dtype) / (self.running_var.to(weight.dtype) + self.eps).sqrt()
        kernel = weight * factor.view(-1, *[1] * (weight.ndim - 1))
        return kernel, bias - self.running_mean.to(weight.dtype) * factor

    def _apply_to(self, y: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        pad = self._padding()
        if self.training:
            z = CONV[self.dims](y, weight, padding=pad)
            wide = (
                torch.promote_types(z.dtype, self.scale.dtype) != self.scale.dtype
            )  # torch uses the opposite convention
            own = z.to(self.scale.dtype) if wide else z
            moments = self.running_mean, self.running_var
            own = F.batch_norm(own, *moments, self.scale, self.bias, True, self.momentum, self.eps)
            return -adjoint(ACTIVATIONS[self.activation](own.to(z.dtype)), weight, pad)
        kernel, shift = self._folded(weight, bias)
        if not torch.is_grad_enabled():
            return symmetric_value(y, weight, shift, self.activation, kernel)
        z = CONV[self.dims](y, kernel, shift, padding=pad)
        return -adjoint(ACTIVATIONS[self.activation](z), weight, pad)

    def pieces(self, y: Tensor) -> Iterator[Piece]:
        """Compute `forward` without gradients: piece by piece in evaluation mode, as a whole in training mode.

        Args:
            y: a state ``[B,channels,*space]``.

        Yields:
            Parts of the result with the axis and range that they fill.
        """
        if self.training or needs_float32(y, self.kernel_size):
            yield Piece(1, 0, self.channels, self(y))
            return
        self._check(y)
        kernel, shift = self._folded(self.weight, self.bias)
        yield from symmetric_pieces(y, self.weight, shift, self.activation, first=kernel)
