"""The operators as one would write them in plain torch or take them from another package: what ours are measured by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from pdegcnn.pde import grid


def shift_maximum(u: Tensor, kernel: Tensor, sign: int = 1, *, stride: int = 1, periodic: bool = True) -> Tensor:
    """One shift and one torch.maximum per tap, differentiated by autograd; of images, not of volumes."""
    assert periodic
    if sign == -1:
        return -shift_maximum(-u, kernel, stride=stride)
    ko, kh, kw = kernel.shape[-3:]
    padded = F.pad(u, (kw // 2, kw // 2, kh // 2, kh // 2), value=-torch.inf)
    turned = [padded.roll(ko // 2 - a, 2)[:, :, ::stride] for a in range(ko)]
    best = None
    for a, i, j in product(range(ko), range(kh), range(kw)):
        value = turned[a][..., i : i + u.shape[3], j : j + u.shape[4]] - kernel[:, :, a, i, j, None, None]
        best = value if best is None else torch.maximum(best, value)
    assert best is not None
    return best


def unfold_maximum(u: Tensor, kernel: Tensor) -> Tensor:
    """All taps in one tensor, then one maximum."""
    ko, kh, kw = kernel.shape[-3:]
    padded = F.pad(u, (kw // 2, kw // 2, kh // 2, kh // 2), value=-torch.inf)
    turned = torch.stack([padded.roll(ko // 2 - a, 2) for a in range(ko)], 3)
    windows = turned.unfold(4, kh, 1).unfold(5, kw, 1)
    return (windows - kernel[:, :, :, None, None]).amax((3, 6, 7))


def kornia_dilation(u: Tensor, kernel: Tensor) -> Tensor:
    """Kornia's dilation: planar, and one kernel for all channels, of which it takes the first."""
    from kornia.morphology import dilation

    element = -kernel[0, 0, 0]
    out = dilation(u.squeeze(2), torch.ones_like(element), structuring_element=element.flip(0, 1))
    return out.unsqueeze(2)


def grid_sample(u: Tensor, shift: Tensor) -> Tensor:
    """Trilinear grid_sample with the orientation axis wrapped by one extra plane on each side."""
    batch, _, orientations, height, width = u.shape
    wrapped = torch.cat([u[:, :, -1:], u, u[:, :, :1]], 2)
    axes = [torch.arange(n, dtype=u.dtype, device=u.device) for n in (orientations, height, width)]
    base = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    place = base + shift[:, :, None, None]
    place = torch.cat([place[..., :1] % orientations + 1, place[..., 1:]], -1)
    size = torch.tensor([orientations + 2, height, width], dtype=u.dtype, device=u.device)
    grid = (place / (size - 1) * 2 - 1).flip(-1)
    planes = wrapped.flatten(0, 1)[:, None]
    grid = grid.expand(batch, *grid.shape).flatten(0, 1)
    return F.grid_sample(planes, grid, padding_mode="border", align_corners=True).view(u.shape)


def conv3d(u: Tensor, kernel: Tensor) -> Tensor:
    """One grouped conv3d per output orientation, whose window holds the orientations it needs."""
    ko, kh, kw = kernel.shape[-3:]
    outs = []
    for o in range(u.shape[2]):
        window = torch.stack([u[:, :, (o + a - ko // 2) % u.shape[2]] for a in range(ko)], 2)
        outs.append(F.conv3d(window, kernel[:, o, None], padding=(0, kh // 2, kw // 2), groups=u.shape[1]))
    return torch.cat(outs, 2)


def conv2d(u: Tensor, weight: Tensor) -> Tensor:
    """conv2d on (channel, orientation) pairs with a weight [C' Or, C Or or Or, KH, KW] given as such."""
    groups = u.shape[1] * u.shape[2] // weight.shape[1]
    margin = (weight.shape[2] // 2, weight.shape[3] // 2)
    return F.conv2d(u.flatten(1, 2), weight, padding=margin, groups=groups).unflatten(1, (-1, u.shape[2]))


@contextmanager
def naive_layers() -> Iterator[None]:
    """PDE layers that run on :func:`shift_maximum` and :func:`grid_sample`."""
    before: tuple[Callable, Callable] = (grid.morphological_convolution, grid.shift_signal)
    grid.morphological_convolution = shift_maximum
    grid.shift_signal = lambda u, shift, boundary: grid_sample(u, shift)
    try:
        yield
    finally:
        grid.morphological_convolution, grid.shift_signal = before
