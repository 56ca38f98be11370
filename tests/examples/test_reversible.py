"""The reversible examples run from the command line, on drawn pictures and on folders, and say what is missing."""

import json

import numpy as np
import pytest
from PIL import Image

from pdegcnn_examples import memory


@pytest.fixture
def run(run, tmp_path):
    """As for all examples, in small form."""
    return lambda name, *arguments: run(name, "--smoke", "--out", tmp_path / "out", *arguments)


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize("task", ["equivariant", "depth"])
def test_drawn_scenes(task, run):
    done = run("reversible_scenes.py", "--task", task)
    losses = [line.split(",")[0].split()[-1] for line in done.splitlines() if "loss" in line]
    assert len(losses) == 2 and losses[0] == losses[1]  # plain and reversible are one map
    assert done.count("(estimated) a step") == 2


def test_camvid_folder(tmp_path, run):
    random = np.random.default_rng(0)
    for part in ("train", "val"):
        for i in range(3):
            write(tmp_path / part / "images" / f"{i}.jpg", random.integers(0, 255, (12, 16, 3)).astype(np.uint8))
            write(tmp_path / part / "labels" / f"{i}.png", random.integers(0, 12, (12, 16)).astype(np.uint8))
    done = run("reversible_scenes.py", "--data", tmp_path)
    assert "3 pictures (3, 12, 16), 3 held out" in done and "mean IoU" in done
    (tmp_path / "val" / "labels" / "1.png").unlink()
    done = run("reversible_scenes.py", "--data", tmp_path)
    assert done.startswith("--data: ") and "1.png" in done
    done = run("reversible_scenes.py", "--data", tmp_path, "--task", "depth")
    assert done.startswith("2") and "CamVid has labels for" in done


def test_clip_folder(tmp_path, run, monkeypatch):
    measured = memory.elsewhere  # one process is enough to see that it measures
    monkeypatch.setattr(memory, "elsewhere", lambda given: measured(given) if given[-1] == "plain" else (1.0, 0.1))
    for t in range(5):
        mask = np.zeros((16, 16), np.uint8)
        mask[4:8, t : t + 4] = 255
        write(tmp_path / "frames" / "cow" / f"{t}.jpg", np.stack([mask] * 3, -1))
        write(tmp_path / "masks" / "cow" / f"{t}.png", mask)
    done = run("reversible_video.py", "--data", tmp_path, "--clip", "cow", "--result", tmp_path / "r.json")
    assert "clip (6, 4, 16, 16), object 0.062" in done and "frames without a mask: IoU" in done
    rows = [line for line in done.splitlines() if " MB" in line]
    assert [row.split()[0] for row in rows] == ["plain", "checkpoint_sqrt", "reversible", "reversible", "frame"]
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["recipe"] == "whole_clip" and result["data"] == "DAVIS 2016, cow, 4 x 16 x 16"
    assert f"IoU {result['figures']['iou']:.3f}" in done and result["figures"]["memory_estimate_mb"] > 0
    done = run("reversible_video.py", "--data", tmp_path, "--clip", "camel")
    assert done.startswith("--data: ") and "among cow; got 'camel'" in done
