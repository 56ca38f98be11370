"""What the examples share: command line, training on the clock, tables, and writing a folder whole or not at all."""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

Loaded = TypeVar("Loaded")


def parser(doc: str | None, *, out: str, seconds: float, data: str) -> argparse.ArgumentParser:
    """The command line that all examples have; ``data`` says what ``--data`` expects."""
    made = argparse.ArgumentParser(description=doc.partition("\n")[0] if doc else None)
    made.add_argument(
        "--seconds", type=float, default=seconds, help="training time of each network (default: %(default)s)"
    )
    made.add_argument("--seed", type=int, default=0, help="of data, weights and batches (default: %(default)s)")
    made.add_argument("--out", type=Path, default=Path(out), help="folder to write (default: %(default)s)")
    made.add_argument("--data", type=Path, help=data)
    made.add_argument("--smoke", action="store_true", help="little data and a second, to see that everything runs")
    return made


def parse(made: argparse.ArgumentParser, what: str = "example", *, resumes: bool = False) -> argparse.Namespace:
    """Read and check the command line; exits with status 2 and a message when something is wrong.

    Unless the program ``resumes``, its folder is replaced as a whole, so it must be new, empty or its own.
    """
    chosen = made.parse_args()
    if not 0 < chosen.seconds < math.inf:
        made.error(f"--seconds: expected a positive number, got {chosen.seconds}")
    if chosen.seed < 0:
        made.error(f"--seed: expected a number >= 0, got {chosen.seed}")
    if not resumes:
        check_out(made, chosen.out, what)
    if chosen.smoke:
        chosen.seconds = 0.5
    return chosen


def check_out(made: argparse.ArgumentParser, out: Path, what: str = "example") -> None:
    """Exit with a message unless the folder ``--out``, which will be replaced, is new, empty or the program's own."""
    if out.exists() and not ((out / "results.json").exists() or out.is_dir() and not os.listdir(out)):
        made.error(f"--out: {out} exists and was not written by this {what}")


def add_band(made: argparse.ArgumentParser) -> None:
    """The option ``--band`` of networks that halve the grid twice."""

    def band(text: str) -> int:
        value = int(text)
        if not 8 <= value <= 48 or value % 4:
            raise argparse.ArgumentTypeError(f"expected a multiple of 4 from 8 to 48, got {value}")
        return value

    made.add_argument("--band", type=band, default=16, help="rings of the grid, 8 to 48 (default: %(default)s)")


def load_or_exit(load: Callable[[], Loaded]) -> Loaded:
    """What ``load`` returns; a data set that is missing or damaged ends the program with status 2 and its message."""
    try:
        return load()
    except (OSError, ValueError) as error:
        sys.stderr.write(f"--data: {error}\n")
        raise SystemExit(2) from error


def parameters(model: nn.Module) -> int:
    """Number of trainable numbers."""
    return sum(p.numel() for p in model.parameters())


def one_cycle(fraction: float, top: float) -> float:
    """From a tenth to the whole of ``top`` in the first fifth of the time, then down to 0 by a cosine."""
    if fraction < 0.2:
        return top * (0.1 + 0.9 * fraction / 0.2)
    return top * (1 + math.cos(math.pi * min(1.0, (fraction - 0.2) / 0.8))) / 2


def train(
    name: str,
    model: nn.Module,
    loss: Callable[[Tensor], Tensor],
    count: int,
    *,
    seconds: float,
    seed: int,
    top: float,
    batch: int = 32,
) -> float:
    """Train for ``seconds`` on the clock; returns the seconds that one pass over ``count`` samples took.

    ``loss`` maps indices of samples to their loss. AdamW; the rate follows the fraction of time that has passed, so
    that it ends at 0 however fast the machine is.
    """
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=top, weight_decay=0.01)
    model.train()
    _step(optimizer, loss, torch.arange(min(batch, count)), 0.0)  # compiles what is compiled on first use
    start, seen = time.perf_counter(), 0
    bar = tqdm(total=100, desc=f"{name:>10}", bar_format="{desc} {percentage:3.0f}%|{bar}| {postfix}", leave=True)
    while (passed := time.perf_counter() - start) < seconds:
        for chosen in torch.randperm(count, generator=order).split(batch):
            if len(chosen) < 2 <= count:
                continue
            value = _step(optimizer, loss, chosen, one_cycle(passed / seconds, top))
            seen += len(chosen)
            passed = time.perf_counter() - start
            bar.n = round(100 * min(1.0, passed / seconds))
            bar.set_postfix_str(f"epoch {seen / count:5.1f}, loss {value:.3f}, {passed:3.0f} s")
            if passed >= seconds:
                break
    bar.close()
    return (time.perf_counter() - start) * count / seen


def _step(optimizer: torch.optim.Optimizer, loss: Callable[[Tensor], Tensor], batch: Tensor, rate: float) -> float:
    """One step of the optimiser; returns the loss."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    value = loss(batch)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return float(value.detach())


def table(results: Mapping[str, Mapping[str, Any]], rows: Mapping[str, tuple[str, str]], width: int = 12) -> str:
    """Lines of text with a column per network: ``rows`` maps a label to the key of a result and its format."""
    wide = 2 + max(len(label) for label in rows)
    lines = [f"{'':<{wide}}" + "".join(f"{name:>{width}}" for name in results)]
    for label, (key, form) in rows.items():
        cells = (form.format(r[key]) if key in r else "-" for r in results.values())
        lines.append(f"{label:<{wide}}" + "".join(f"{cell:>{width}}" for cell in cells))
    return "\n".join(lines)


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Let ``fill`` write into a new folder beside ``folder``, then put it in its place; a failure changes nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        fresh.chmod(0o755)
        fill(fresh)
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        if folder.exists():
            os.replace(folder, old)
        os.replace(fresh, folder)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
