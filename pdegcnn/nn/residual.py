"""Residual blocks."""

from __future__ import annotations

import inspect

from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._typing import Device, DType
from pdegcnn.nn.linear import ChannelLinear
from pdegcnn.spaces import Mesh


class Residual(nn.Module):
    """Residual block ``skip(u) + layer(u)``, which makes deep networks trainable.

    The skip connection is the identity, or mixes channels at every point if their number changes. The block is
    equivariant whenever its layer is. Source: He et al. (arXiv 1512.03385).

    Args:
        layer: any module that keeps the size of its signals: a PDE layer, or several in ``nn.Sequential``.
        in_channels: channels of the input; None: the layer's own ``in_channels``.
        out_channels: channels of the output; None: the layer's own ``out_channels``.
        device: where the parameters of the skip connection live.
        dtype: their dtype.

    Shape:
        ``[B,C,...] -> [B,C',...]``, on any space.

    Raises:
        TypeError: if ``layer`` is not a module, or a number of channels is not an int.
        ValueError: if only one number of channels is given, or the layer changes the size of its signals.

    Example:
        >>> import torch, pdegcnn as pg
        >>> space = pg.SE2(8)
        >>> block = pg.nn.Residual(pg.nn.PDELayer(space, 4, 6))
        >>> block(torch.rand(1, 4, 8, 12, 12)).shape
        torch.Size([1, 6, 8, 12, 12])
    """

    def __init__(
        self,
        layer: nn.Module,
        in_channels: int | None = None,
        out_channels: int | None = None,
        *,
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.layer = _checks.kind("layer", layer, nn.Module, "a torch.nn.Module")
        given = {"in_channels": in_channels, "out_channels": out_channels}
        known = {name: getattr(layer, name, None) if n is None else n for name, n in given.items()}
        counts = [None if n is None else _checks.positive_int(name, n) for name, n in known.items()]
        before, after = counts
        if (before is None) != (after is None):
            raise ValueError(f"out_channels: expected both in_channels and out_channels or neither, got {counts}")
        self.skip: nn.Module = nn.Identity()
        if before is not None and after is not None and before != after:
            self.skip = ChannelLinear(before, after, bias=False, device=device, dtype=dtype)

    def forward(self, u: Tensor, mesh: Mesh | None = None) -> Tensor:
        """Return the sum of skip connection and layer; ``mesh`` is passed on to the layer if given.

        Args:
            u: a signal ``[B,C,...]``.
            mesh: on meshes, where ``u`` lives, if that is another mesh than the layer was built for.
        """
        inside = on_mesh(self.layer, u, mesh)
        around = self.skip(u)
        if inside.shape != around.shape:
            raise ValueError(
                f"layer: expected a layer that returns shape {tuple(around.shape)} like the skip connection, "
                f"got {tuple(inside.shape)}"
            )
        return around + inside


def on_mesh(layer: nn.Module, u: Tensor, mesh: Mesh | None) -> Tensor:
    """Call a layer, with the mesh if one is given and the layer takes one."""
    if mesh is None or "mesh" not in inspect.signature(layer.forward).parameters:
        return layer(u)
    return layer(u, mesh)
