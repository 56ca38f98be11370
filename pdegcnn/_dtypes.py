"""Half precision: its dtypes, and the wider dtype of computations."""

from __future__ import annotations

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)
"""Types of half precision."""


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return float32 for half precision, any other real or complex type itself."""
    return torch.promote_types(dtype, torch.float32)


def widen(value: Tensor) -> Tensor:
    """Return half precision as float32, any other tensor itself."""
    return value.to(torch.promote_types(value.dtype, torch.float32))
