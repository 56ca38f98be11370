"""The reversible examples run from the command line, on drawn pictures and on folders, and say what is missing."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name, *arguments):
    command = [sys.executable, str(EXAMPLES / name), "--smoke", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize("task", ["equivariant", "depth"])
def test_drawn_scenes(task):
    done = run("reversible_scenes.py", "--task", task)
    assert done.returncode == 0, done.stderr
    losses = [line.split(",")[0].split()[-1] for line in done.stdout.splitlines() if "loss" in line]
    assert len(losses) == 2 and losses[0] == losses[1]  # plain and reversible are one map
    assert done.stdout.count("(estimated) a step") == 2


def test_camvid_folder(tmp_path):
    random = np.random.default_rng(0)
    for part in ("train", "val"):
        for i in range(3):
            write(tmp_path / part / "images" / f"{i}.jpg", random.integers(0, 255, (12, 16, 3)).astype(np.uint8))
            write(tmp_path / part / "labels" / f"{i}.png", random.integers(0, 12, (12, 16)).astype(np.uint8))
    done = run("reversible_scenes.py", "--data", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 pictures (3, 12, 16), 3 held out" in done.stdout and "mean IoU" in done.stdout
    (tmp_path / "val" / "labels" / "1.png").unlink()
    done = run("reversible_scenes.py", "--data", tmp_path)
    assert done.returncode == 1 and "1.png" in done.stderr and "Traceback" not in done.stderr
    done = run("reversible_scenes.py", "--data", tmp_path, "--task", "depth")
    assert done.returncode == 2 and "CamVid has labels for" in done.stderr


def test_clip_folder(tmp_path):
    for t in range(5):
        mask = np.zeros((16, 16), np.uint8)
        mask[4:8, t : t + 4] = 255
        write(tmp_path / "frames" / "cow" / f"{t}.jpg", np.stack([mask] * 3, -1))
        write(tmp_path / "masks" / "cow" / f"{t}.png", mask)
    done = run("reversible_video.py", "--data", tmp_path, "--clip", "cow")
    assert done.returncode == 0, done.stderr
    assert "clip (3, 4, 16, 16), object 0.062" in done.stdout and "frames without a mask: IoU" in done.stdout
    rows = [line for line in done.stdout.splitlines() if " MB" in line]
    assert [row.split()[0] for row in rows] == ["plain", "checkpoint_sqrt", "reversible", "reversible"]
    done = run("reversible_video.py", "--data", tmp_path, "--clip", "camel")
    assert done.returncode == 1 and "among cow; got 'camel'" in done.stderr
