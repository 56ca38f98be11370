"""`memory_estimate` beside peaks that were measured in a separate process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from pdegcnn.models import equivariant_hyperbolic_segmenter
from pdegcnn.reversible import ReversibleStack, SymmetricConv, memory_estimate

SCRIPT = Path(__file__).with_name("measured_peaks.py")


def test_estimates_are_within_fifteen_percent_of_measured_peaks():
    """Linux only: the peak is that of /proc/self/status. Large blocks go to the kernel, as with a fresh heap."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), env.get("PYTHONPATH"))))
    found = subprocess.run([sys.executable, str(SCRIPT)], env=env, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert len(rows) == 30
    wrong = [(name, memory, peak, guess) for name, memory, peak, guess in rows if abs(guess - peak) > 0.15 * peak]
    assert not wrong, wrong


def test_memory_is_constant_in_depth_and_ordered():
    def estimate(depth):
        return memory_estimate(ReversibleStack([SymmetricConv(8) for _ in range(depth)]), (1, 8, 64, 64))

    shallow, deep = estimate(8), estimate(64)
    state = 8 * 64 * 64 * 4
    assert deep.states == 2 * state
    grown = deep.reversible - shallow.reversible - (deep.gradients - shallow.gradients)
    assert grown <= 56 * 0.01 * state
    assert deep.reversible < deep.checkpoint_sqrt < min(deep.checkpoint, deep.plain)
    assert deep.reversible <= 0.15 * deep.plain
    with pytest.raises(TypeError, match="model"):
        memory_estimate(torch.tanh, (1,))
    with pytest.raises(ValueError, match="^model: expected a parameter that requires a gradient"):
        memory_estimate(torch.nn.ReLU(), (1,))
    with pytest.raises(TypeError, match="^input_shape: expected a sequence"):
        memory_estimate(ReversibleStack([SymmetricConv(8)]), 5)
    with pytest.raises(ValueError, match="input_shape"):
        memory_estimate(nn.Tanh(), (1, 0))


def test_the_loss_is_part_of_the_step_and_the_model_stays_as_it_is():
    stack = ReversibleStack([SymmetricConv(8) for _ in range(4)], memory="checkpoint")
    before = {n: p.clone() for n, p in stack.named_parameters()}
    total, square = (memory_estimate(stack, (1, 8, 64, 64), loss=f) for f in (None, lambda out: out[0].square().mean()))
    assert square.reversible > total.reversible
    assert stack.memory == "checkpoint" and not stack._forward_hooks
    assert all(p.grad is None and torch.equal(p, before[n]) for n, p in stack.named_parameters())


def test_pde_layers_can_be_estimated():
    """Their operators count as their portable versions, which hold more than those of the CPU."""
    model = equivariant_hyperbolic_segmenter(1, 2, 2, 1, orientations=4, kernel_size=3)
    found = memory_estimate(model, (1, 1, 32, 32))
    assert 0 < found.states < found.reversible < found.plain
