"""A few models of ``benchmarks/soak.py``, and the same bits from run to run and for one thread and two."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ..export.small_models import SMALL, of_tensors

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"


def test_five_random_models(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SOAK), "--models", "5"], capture_output=True, text=True, cwd=SOAK.parents[1], check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("5 models from seed 0 on")


def step(name: str) -> list[torch.Tensor]:
    """Outputs and gradients of one training step, all drawn again from the same seed."""
    torch.manual_seed(1)
    build, shape = SMALL[name]
    model = of_tensors(build())
    out = model(torch.randn(shape))
    out.square().sum().backward()
    return [out.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


def digests() -> list[str]:
    """Return a line for each network: its name, and a hash of the bits of a training step."""
    made = {name: b"".join(x.contiguous().numpy().tobytes() for x in step(name)) for name in SMALL}
    return [f"{name} {hashlib.sha256(content).hexdigest()}" for name, content in made.items()]


def test_processes_agree_to_the_bit() -> None:
    """Also where sets and dictionaries of strings are ordered otherwise."""
    root = SOAK.parents[1]
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": str(root)}
    environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    command = [sys.executable, "-c", "from tests.robustness.test_soak import digests; print(*digests(), sep='\\n')"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == digests()


@pytest.mark.parametrize("name", SMALL)
def test_runs_repeat_to_the_bit_on_one_thread_and_two(name: str) -> None:
    threads = torch.get_num_threads()
    try:
        runs = []
        for count in (1, 1, 2, 2):
            torch.set_num_threads(count)
            runs.append(step(name))
    finally:
        torch.set_num_threads(threads)
    assert all(a.equal(b) for a, b in zip(runs[0], runs[1], strict=True))
    assert all(a.equal(b) for a, b in zip(runs[2], runs[3], strict=True))
    # sums may be split in another order; gradients that cancel (as of a bias before a batch norm) are rounding alone
    scale = max(float(a.abs().max()) for a in runs[0])
    for a, b in zip(runs[0], runs[2], strict=True):
        torch.testing.assert_close(a, b, atol=1e-6 * scale, rtol=1e-4)
