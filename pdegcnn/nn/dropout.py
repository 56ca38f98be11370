"""Leave parts of signals out while training."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn.spaces import Space


class FieldDropout(nn.Module):
    """Set whole fibres to zero in training: at each point a channel keeps all orientations or loses all.

    ``torch.nn.Dropout`` would drop single orientations, which makes a pattern look like a turned one. ``Dropout2d``
    drops whole channels and is equivariant too. ``escnn.nn.FieldDropout`` does the same.

    Args:
        space: where the signals live. On the plane and on S2 every value is its own fibre.
        p: probability of zero; remaining values are divided by ``1 - p``.

    Shape:
        ``[B,C,(Or,) ...] -> [B,C,(Or,) ...]``

    Raises:
        TypeError: if ``space`` is not a space, or ``p`` is not a number.
        ValueError: if ``p`` is not in [0, 1], or a signal does not fit.

    Example:
        >>> import torch, pdegcnn as pg
        >>> layer = pg.nn.FieldDropout(pg.SE2(8), p=0.5)
        >>> u = layer(torch.ones(1, 4, 8, 6, 6))
        >>> bool((u == u[:, :, :1]).all())
        True
    """

    def __init__(self, space: Space, p: float = 0.5) -> None:
        super().__init__()
        self.space = _checks.kind("space", space, Space, "a space")
        self.p = _checks.plain_number("p", p, 0.0, 1.0)

    def forward(self, u: Tensor) -> Tensor:
        """Drop fibres of ``u`` in training; return ``u`` in evaluation.

        Args:
            u: a signal ``[B,C,(Or,) ...]``; a channel is dropped with all its orientations at a point.
        """
        _checks.signal("u", u, self.space.signal_ndim, self.space.layout)
        if not self.training:
            return u
        one = u[:, :, :1] if self.space.has_orientations else u
        return u * F.dropout(one.new_ones(()).expand(one.shape), self.p)

    def extra_repr(self) -> str:
        """Return the space and probability."""
        return f"{self.space}, p={self.p}"
