"""Specification of the linear group convolution (a correlation, depthwise or channel-mixing)."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from pdegcnn.ops.padding import pad


def group_convolution(u: Tensor, kernel: Tensor, boundary: str = "zeros") -> Tensor:
    """Return ``out[b,c,o,h,w] = sum over taps of u[b,c,(o+do) mod Or,h+dh,w+dw] * kernel[c,o,do,dh,dw]``.

    A kernel [Cout,Cin,Or,KO,KH,KW] of rank six mixes the channels. ``boundary`` says what lies outside the
    image: ``"zeros"``, ``"replicate"`` (the nearest pixel) or ``"periodic"``.
    """
    height, width = u.shape[-2:]
    ko, kh, kw = kernel.shape[-3:]
    padded = pad(u, kh // 2, kw // 2, boundary)
    out = torch.zeros((), dtype=u.dtype, device=u.device)
    for a, i, j in product(range(ko), range(kh), range(kw)):
        shifted = padded.roll(ko // 2 - a, dims=2)[..., i : i + height, j : j + width]
        weight = kernel[..., a, i, j]
        if kernel.ndim == 5:
            out = out + shifted * weight[:, :, None, None]
        else:
            out = out + torch.einsum("bcohw,dco->bdohw", shifted, weight)
    return out
