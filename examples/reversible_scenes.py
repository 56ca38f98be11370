"""Reversible networks on drawn scenes: segmentation, depth, classification, whole videos.

Drawn discs and squares at known depths stand in for photographs. Each task trains a fully hyperbolic network and the
same network under plain autograd, and prints loss, accuracy, measured seconds and estimated memory of both.

    python examples/reversible_scenes.py --task segmentation
    python examples/reversible_scenes.py --task video --data clips/   # *.npz with "video" [T,H,W] and "mask" [T,H,W]

With ``--data`` every task reads ``*.npz`` files of arrays ``image`` or ``video`` and ``mask``, ``depth`` or ``label``.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from pdegcnn.models.hyperbolic import (
    equivariant_hyperbolic_segmenter,
    hyperbolic_classifier,
    hyperbolic_segmenter,
    video_segmenter,
)
from pdegcnn.reversible import memory_estimate

TARGET = {"segmentation": "mask", "equivariant": "mask", "depth": "depth", "classification": "label", "video": "mask"}


def scene(size: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Three shapes in front of a wall, far ones hidden by near ones; depth is exact."""
    rows, columns = np.mgrid[:size, :size]
    image, mask = np.full((size, size), 0.5), np.zeros((size, size), int)
    depth = np.ones((size, size))
    for distance in sorted(rng.uniform(0.2, 0.9, 3), reverse=True):
        kind, radius = rng.integers(2), size * 0.16 / (0.4 + distance)
        i, j = rng.uniform(0, size, 2)
        di, dj = np.abs(rows - i), np.abs(columns - j)
        inside = (di**2 + dj**2 < radius**2) if kind == 0 else (np.maximum(di, dj) < radius)
        image[inside], mask[inside], depth[inside] = 1 - distance, 1 + kind, distance
    image = image + rng.normal(0, 0.05, image.shape)
    return {
        "image": image,
        "mask": mask,
        "depth": depth,
        "label": np.array(np.bincount(mask.ravel(), minlength=3)[1:].argmax()),
    }


def clip(size: int, rng: np.random.Generator, frames: int = 8) -> dict[str, np.ndarray]:
    """A disc that moves over noise."""
    rows, columns = np.mgrid[:size, :size]
    start, speed = rng.uniform(size * 0.3, size * 0.7, 2), rng.uniform(-2, 2, 2)
    inside = np.stack(
        [np.hypot(rows - c[0], columns - c[1]) < size / 6 for c in (start + t * speed for t in range(frames))]
    )
    return {"video": inside * 0.6 + rng.normal(0, 0.2, inside.shape), "mask": inside.astype(int)}


def load(task: str, data: Path | None, count: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs [N,1,*space] and targets."""
    rng = np.random.default_rng(0)
    draw = clip if task == "video" else scene
    items = [dict(np.load(p)) for p in sorted(data.glob("*.npz"))] if data else [draw(size, rng) for _ in range(count)]
    if not items:
        raise SystemExit(f"--data: expected *.npz files in {data}, found none")
    x = np.stack([item["video" if task == "video" else "image"] for item in items])
    target = torch.as_tensor(np.stack([item[TARGET[task]] for item in items]))
    return torch.as_tensor(x, dtype=torch.float32)[:, None], target.float() if task == "depth" else target.long()


def build(task: str) -> torch.nn.Module:
    """The network of a task."""
    return {
        "segmentation": lambda: hyperbolic_segmenter(1, 3, width=8, depth=3),
        "equivariant": lambda: equivariant_hyperbolic_segmenter(1, 3, width=4, depth=3),
        "depth": lambda: hyperbolic_segmenter(1, 1, width=8, depth=3),
        "classification": lambda: hyperbolic_classifier(1, 2, width=8, depth=3),
        "video": lambda: video_segmenter(1, 2, width=8, depth=2, levels=1, rank=8),
    }[task]()


def train(model: torch.nn.Module, task: str, x: torch.Tensor, target: torch.Tensor, steps: int) -> tuple[float, float]:
    """Train; return the last loss and the seconds of a step."""
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    start = time.perf_counter()
    value = torch.zeros(())
    for step in range(steps):
        batch = torch.arange(step * 4, step * 4 + 4) % len(x)
        out = model(x[batch])
        value = F.mse_loss(out[:, 0], target[batch]) if task == "depth" else F.cross_entropy(out, target[batch])
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    return float(value.detach()), (time.perf_counter() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=list(TARGET), default="segmentation")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--count", type=int, default=48)
    args = parser.parse_args()
    x, target = load(args.task, args.data, args.count, args.size)
    held = max(1, len(x) // 4)
    for memory in ("plain", "reversible"):
        torch.manual_seed(0)
        model = build(args.task)
        model.stack.memory = memory
        value, seconds = train(model, args.task, x[held:], target[held:], args.steps)
        model.eval()
        with torch.no_grad():
            out = model(x[:held])
        if args.task == "depth":
            score = f"mean error {float((out[:, 0] - target[:held]).abs().mean()):.3f}"
        else:
            score = f"accuracy {float((out.argmax(1) == target[:held]).float().mean()):.3f}"
        print(f"{memory:>10}: loss {value:.3f}, held-out {score}, {1e3 * seconds:.0f} ms a step")
    found = memory_estimate(model, (4, *x.shape[1:]))
    for way in ("plain", "checkpoint", "checkpoint_sqrt", "reversible"):
        print(f"estimated memory of a step, {way}: {getattr(found, way) / 1e6:.2f} MB")
    if args.task == "video":
        full = hyperbolic_segmenter(1, 2, width=8, depth=2, levels=1, dims=3)
        wide = memory_estimate(full, (4, *x.shape[1:]))
        print(f"kernels: full {wide.parameters / 1e6:.2f} MB, block-low-rank {found.parameters / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
