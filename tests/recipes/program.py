"""A small training program for tests of whole processes: ``program.py FOLDER [--plain] [--hang-at STEP]``."""

import argparse
import os
import time
from pathlib import Path

import torch
from torch import nn

from pdegcnn.recipes import Settings, fit, processes


class Line:
    count = 56

    def __init__(self, plain, hang_at, folder):
        self.x, self.plain = torch.linspace(-1, 1, self.count)[:, None], plain
        self.hang_at, self.folder = hang_at, folder
        self.steps, self.parent = 0, os.getppid()

    def loss(self, model, chosen, random):
        if self.steps == self.hang_at:
            (Path(self.folder) / "hangs").touch()
            while os.getppid() == self.parent:  # until the test kills this process, or has died itself
                time.sleep(0.1)
        self.steps += 1
        x = self.x[chosen]
        if not self.plain:
            x = x + torch.from_numpy(random.normal(0, 0.01, (len(chosen), 1))).float()
        return (model(x) - x**2).square().mean()

    def evaluate(self, model):
        return {"score": -float((model(self.x) - self.x**2).square().mean())}


def main(arguments=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--hang-at", type=int, default=-1)
    chosen = parser.parse_args(arguments)
    torch.manual_seed(1)
    noise = [] if chosen.plain else [nn.BatchNorm1d(16), nn.Dropout(0.2)]
    model = nn.Sequential(nn.Linear(1, 16), *noise, nn.Tanh(), nn.Linear(16, 1))
    how = Settings(epochs=6, batch=8, rate=0.02, average=0.9, save_seconds=1e-9)
    with processes():
        fit(model, Line(chosen.plain, chosen.hang_at, chosen.folder), how, chosen.folder)


if __name__ == "__main__":
    main()
