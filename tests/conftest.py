"""Test set-up: reproducible draws, and every device that is present."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings

settings.register_profile("house", deadline=None, max_examples=20, derandomize=True)
settings.load_profile("house")

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)
