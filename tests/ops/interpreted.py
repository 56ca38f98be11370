"""Tests that only the interpreted Triton versions need; ``test_triton.py`` runs them under ``TRITON_INTERPRET=1``."""

import torch

from pdegcnn.ops.group_convolution import op


def test_opcheck_group_convolution_triton():
    u = torch.randn(1, 1, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(1, 2, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(op.correlate, (u, kernel, [1, 0], "triton"))
    torch.library.opcheck(op.spread, (u, kernel, [1, 0], "triton"))
    torch.library.opcheck(op.products, (u, torch.ones_like(u), [1, 1], 3, "triton"))
