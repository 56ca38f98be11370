"""Resizing and pooling that keep rotations by 90 degrees exact."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from pdegcnn import _checks, functional


class Resample(nn.Module):
    """Resize the image axes of ``[..., H, W]`` to ``size``; see :func:`pdegcnn.functional.resample`.

    Args:
        size: height and width of the result, or one number for both.
    """

    def __init__(self, size: int | tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        if not isinstance(size, (int, tuple, list)) or not isinstance(size, int) and len(size) != 2:
            raise TypeError(f"size: expected a positive int or two of them, got {size!r}")
        for n in (size,) if isinstance(size, int) else size:
            _checks.positive_int("size", n)

    def forward(self, u: Tensor) -> Tensor:
        """Resize ``u``."""
        return functional.resample(u, self.size)

    def extra_repr(self) -> str:
        """The size."""
        return f"{self.size}"


class MaxPool(nn.Module):
    """Maximum over windows of the image axes of ``[B,...,H,W]``, refused where it would lose rotations by 90 degrees.

    Args:
        kernel_size: width of the windows.
        stride: step from window to window; ``kernel_size`` if None.

    Example:
        >>> import torch, pdegcnn as pg
        >>> pg.nn.MaxPool(2)(torch.rand(1, 4, 8, 16, 16)).shape
        torch.Size([1, 4, 8, 8, 8])
    """

    def __init__(self, kernel_size: int, stride: int | None = None) -> None:
        super().__init__()
        self.kernel_size = _checks.positive_int("kernel_size", kernel_size)
        self.stride = _checks.positive_int("stride", kernel_size if stride is None else stride)

    def forward(self, u: Tensor) -> Tensor:
        """Pool ``u``."""
        if _checks.tensor("u", u).ndim < 3:
            raise ValueError(f"u: expected a tensor [B,...,H,W], got shape {tuple(u.shape)}")
        _checks.signal("u", u, u.ndim, "[B,...,H,W]")
        for n in u.shape[-2:]:
            if n < self.kernel_size or (n - self.kernel_size) % self.stride:
                raise ValueError(
                    f"u: expected sizes that windows of {self.kernel_size} at stride {self.stride} fill to the last "
                    f"pixel, so that pooling is centred, got shape {tuple(u.shape)}; resample first"
                )
        pooled = F.max_pool2d(u.flatten(0, -4) if u.ndim > 4 else u, self.kernel_size, self.stride)
        return pooled.reshape(*u.shape[:-2], *pooled.shape[-2:])

    def extra_repr(self) -> str:
        """Window and stride."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}"
