"""Test set-up: reproducible draws, and every device that is present."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from hypothesis import settings

from tests.helpers import DEVICES

collect_ignore = [] if importlib.util.find_spec("escnn") else ["escnn"]  # `make escnn` runs those

settings.register_profile("repeatable", deadline=None, max_examples=20, derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)
