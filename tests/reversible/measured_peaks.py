"""Run by test_memory.py in a separate process: measured peaks of training steps beside estimates, as JSON lines."""

import json
from pathlib import Path

import torch
from torch import nn

from pdegcnn.models import (
    equivariant_hyperbolic_segmenter,
    hyperbolic_classifier,
    hyperbolic_segmenter,
    video_segmenter,
)
from pdegcnn.reversible import ReversibleStack, SymmetricConv, memory_estimate


def blocks(channels, depth):
    def block():
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.SiLU(), nn.Conv2d(channels, channels, 1))

    return ReversibleStack([block() for _ in range(depth)], h=0.2)


ENDS = {"opening": "normalized", "closing": "normalized"}
CASES = {
    "symmetric": (lambda: ReversibleStack([SymmetricConv(20) for _ in range(10)], h=0.2), (1, 20, 120, 104)),
    "exact": (lambda: ReversibleStack([SymmetricConv(48, rank=5) for _ in range(6)], exact=True), (1, 48, 88, 120)),
    "blocks": (lambda: blocks(24, 6), (2, 24, 88, 104)),
    "segmenter": (lambda: hyperbolic_segmenter(3, 12, width=12, depth=2), (1, 3, 121, 160)),
    "batch norm": (lambda: hyperbolic_segmenter(3, 9, 16, 1, rank=10, batch_norm=True), (2, 3, 120, 90)),
    "normalized ends": (
        lambda: hyperbolic_segmenter(3, 9, 32, 1, rank=(16, 8, 8), batch_norm=True, **ENDS),
        (2, 3, 120, 90),
    ),
    "classifier": (lambda: hyperbolic_classifier(3, 10, width=10, depth=2), (2, 3, 128, 100)),
    "video": (lambda: video_segmenter(3, 2, width=6, levels=1, depth=1), (1, 3, 8, 48, 40)),
    "double": (lambda: ReversibleStack([SymmetricConv(12) for _ in range(5)], h=0.2).double(), (1, 12, 72, 72)),
    "group": (
        lambda: equivariant_hyperbolic_segmenter(3, 4, 6, orientations=4, layer="symmetric", kernel_size=3),
        (1, 3, 112, 128),
    ),
}
"""Shapes and models that no constant of the estimate was fitted to."""


def resident(name):
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def energy(out):
    return sum((part**2).mean() for part in (out if isinstance(out, tuple) else (out,)))


def step(model, x):
    energy(model(x)).backward()
    model.zero_grad(set_to_none=True)


def main():
    torch.set_num_threads(1)
    for name, (build, shape) in CASES.items():
        torch.manual_seed(0)
        model = build()
        x = torch.randn(shape, dtype=next(model.parameters()).dtype)
        estimate = memory_estimate(model, shape, loss=energy)
        for memory in ("plain", "checkpoint_sqrt", "reversible"):
            for module in model.modules():
                if isinstance(module, ReversibleStack):
                    module.memory = memory
            if memory == "plain":
                step(model, x)  # code and compiled kernels are there from the second step on
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak starts again from here
            before = resident("VmRSS")
            step(model, x)
            found = resident("VmHWM") - before
            print(json.dumps([name, memory, found, getattr(estimate, memory)]), flush=True)


if __name__ == "__main__":
    main()
