"""Test set-up: reproducible draws, and every device that is present."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests.helpers import DEVICES

collect_ignore = [] if importlib.util.find_spec("escnn") else ["escnn"]  # `make escnn` runs those

# compiled graphs call operators by their signatures, so each state of these files has its own cache
_OPERATORS = sorted((Path(__file__).parents[1] / "pdegcnn" / "ops").glob("*/custom_op.py"))
_STATE = hashlib.sha256(b"".join(file.read_bytes() for file in _OPERATORS)).hexdigest()[:16]
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"pdegcnn-inductor-{_STATE}"))

settings.register_profile("repeatable", deadline=None, max_examples=20, derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)
