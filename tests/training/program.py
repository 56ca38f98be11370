"""A small training program for tests of whole processes: ``program.py FOLDER [WHAT ...]``; see ``main``."""

import argparse
import os
import runpy
import sys
import time
from pathlib import Path

import torch
from torch import nn

import pdegcnn as pg
from pdegcnn_examples.training import Settings, distributed, fit, world_size

HOW = {"epochs": 6, "batch": 8, "rate": 0.02, "clip": 1.0}


class Line:
    """Learn a parabola. The process hangs at a step if asked to."""

    count = 56

    def __init__(self, noisy=False, hang_at=-1, folder=None):
        self.x, self.noisy, self.hang_at, self.folder = (
            torch.linspace(-1, 1, self.count, dtype=torch.float64)[:, None],
            noisy,
            hang_at,
            folder,
        )
        self.steps, self.parent = 0, os.getppid()

    def loss(self, model, chosen, random):
        if self.steps == self.hang_at:
            (Path(self.folder) / "hangs").touch()
            while os.getppid() == self.parent:  # until the test kills this process, or has died itself
                time.sleep(0.1)
        self.steps += 1
        x = self.x[chosen]
        if self.noisy:
            x = x + torch.from_numpy(random.normal(0, 0.01, (len(chosen), 1)))
        return (model(x) - self.x[chosen] ** 2).square().mean()

    def evaluate(self, model):
        with torch.no_grad():
            return {"score": -float((model(self.x) - self.x**2).square().mean())}


class Stripes:
    """Learn the direction of stripes by a network of PDE layers, in eval mode: shares of a batch then add up."""

    count = 16

    def __init__(self):
        self.y = torch.arange(self.count) % 2
        noise = torch.randn(self.count, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        rows, columns = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
        stripes = torch.stack([torch.sin(rows if y else columns) for y in self.y])
        self.x = (stripes + 0.1 * noise)[:, None]

    def loss(self, model, chosen, random):
        return nn.functional.cross_entropy(model.eval()(self.x[chosen]), self.y[chosen])

    def evaluate(self, model):
        return {}


def line_network(noisy=False):
    torch.manual_seed(1)
    noise = [nn.BatchNorm1d(16), nn.Dropout(0.2)] if noisy else []
    return nn.Sequential(nn.Linear(1, 16), *noise, nn.Tanh(), nn.Linear(16, 1)).double()


def stripes_network():
    torch.manual_seed(1)
    return pg.models.rotated_digits(
        classes=2, space=pg.SE2(4), channels=(2, 2), size=7, kernel_size=3, dtype=torch.float64
    )


def train_everything(folder):
    """What one process and two must agree on: averaged weights, weights kept whole or sharded, PDE layers."""
    fit(line_network(), Line(), Settings(**HOW, average=0.9), folder / "averaged")
    fit(line_network(), Line(), Settings(**HOW), folder / "whole")
    best = Settings(**HOW, sharded=True, score="score", patience=6)
    fit(line_network(), Line(), best, folder / "sharded")
    for sharded in (False, True):
        how = Settings(epochs=2, batch=8, rate=0.02, sharded=sharded)
        fit(stripes_network(), Stripes(), how, folder / f"stripes{'_sharded' * sharded}")


def stop_and_go_on(folder):
    """A sharded training that stops after nine steps, and one that goes on."""

    class Stopping(Line):
        def loss(self, model, chosen, random):
            if self.steps == 9 and not torch.distributed.get_rank():
                os.kill(os.getpid(), 15)
            return super().loss(model, chosen, random)

    how = Settings(**HOW, sharded=True)
    try:
        fit(line_network(), Stopping(), how, folder / "sharded_parts")
    except SystemExit as end:
        assert end.code == 128 + 15
    else:
        raise AssertionError("expected the training to stop")
    fit(line_network(), Line(), how, folder / "sharded_parts")


def main(arguments=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hang-at", type=int)
    parser.add_argument("--noisy", action="store_true", help="train once, with noise; else everything")
    parser.add_argument("--example", nargs=argparse.REMAINDER, help="an example, and its arguments, to run at the end")
    chosen = parser.parse_args(arguments)
    if chosen.noisy:
        how = Settings(**HOW, average=0.9, save_seconds=1e-9)
        fit(line_network(True), Line(True, chosen.hang_at, chosen.folder), how, chosen.folder)
        return
    with distributed():
        train_everything(chosen.folder)
        if world_size() > 1:
            stop_and_go_on(chosen.folder)
        if chosen.example:
            sys.argv = chosen.example
            runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
