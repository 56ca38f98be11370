"""Whole processes: one that is killed goes on, two learn what one learns."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from pdegcnn_examples.training import read_weights
from tests.training import program

PROGRAM = Path(__file__).with_name("program.py")
ROOT = PROGRAM.parents[2]
NAMES = ("averaged", "whole", "sharded", "stripes", "stripes_sharded")


def start(folder, *arguments, launcher=()):
    paths = [str(ROOT), str(ROOT / "examples"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, *launcher, str(PROGRAM), str(folder), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def history(folder):
    return list(csv.DictReader((folder / "history.csv").open()))


def timeless(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def test_a_killed_process_goes_on(tmp_path):
    """kill -9 in the middle of an epoch, start again: the files of an unbroken run."""
    program.main([str(tmp_path / "whole"), "--noisy"])
    hanging = start(tmp_path / "parts", "--noisy", "--hang-at", 17)
    while not (tmp_path / "parts" / "hangs").exists():
        assert hanging.poll() is None, hanging.communicate()[1]
        time.sleep(0.01)
    hanging.send_signal(signal.SIGKILL)
    hanging.communicate()
    assert torch.load(tmp_path / "parts" / "last.ckpt", weights_only=True)["global_step"] == 17
    program.main([str(tmp_path / "parts"), "--noisy"])
    whole, parts = (tmp_path / name for name in ("whole", "parts"))
    first, second = (read_weights(folder / "weights.safetensors") for folder in (whole, parts))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert timeless(history(whole)) == timeless(history(parts)) and len(history(whole)) == 6


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Folders of the same trainings by one process and by two; the latter run an example at the end."""
    folder = tmp_path_factory.mktemp("processes")
    digits(folder / "rotmnist")
    example = [str(ROOT / "examples" / "rotated_digits.py"), "--smoke", "--net", "cnn", "--data", str(folder)]
    example += ["--augmentation", "0", "--batch", "32", "--epochs", "3", "--out", str(folder / "example")]
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    two = start(folder / "two", "--example", *example, launcher=launcher)
    program.main([str(folder / "one")])
    _, errors = two.communicate()
    assert two.returncode == 0, errors
    return folder / "one", folder / "two"


def digits(folder):
    """A folder laid out as rotated MNIST: bars of as many pixels as their label says."""
    folder.mkdir()
    for name in ("rotmnist_train12k", "rotmnist_test50k"):
        y = np.arange(64) % 10
        x = np.zeros((64, 28, 28), np.uint8)
        for image, label in zip(x, y):
            image[8:20, 8 : 9 + label] = 255
        np.savez(folder / f"{name}.npz", x=x, y=y, angle_deg=np.zeros(64))


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_learn_what_one_learns(both, name):
    """Without normalisation and dropout the shares of a batch add up: equal weights and losses to rounding.

    In float64, whose rounding AdamW does not enlarge where a gradient vanishes.
    """
    one, two = (read_weights(folder / name / "weights.safetensors") for folder in both)
    assert one.keys() == two.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-8, atol=1e-10)
    rows = [history(folder / name) for folder in both]
    assert len(rows[0]) == len(rows[1]) >= 2
    for a, b in zip(*rows):
        for key in set(a) - {"seconds"}:
            assert float(a[key]) == pytest.approx(float(b[key]), rel=1e-6)
    first, last = (float(rows[0][place]["loss"]) for place in (0, -1))
    assert last != first if "stripes" in name else last < 0.95 * first


def test_sharded_weights_are_those_of_whole_ones(both):
    for folder in both:
        for whole, sharded in (("whole", "sharded"), ("stripes", "stripes_sharded")):
            first, second = (read_weights(folder / name / "weights.safetensors") for name in (whole, sharded))
            for key, value in first.items():
                torch.testing.assert_close(second[key], value, rtol=1e-8, atol=1e-10)


def test_a_signal_to_one_of_two_stops_both_and_they_go_on(both):
    _, two = both
    whole, parts = (read_weights(two / name / "weights.safetensors") for name in ("sharded", "sharded_parts"))
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, rtol=1e-8, atol=1e-10)


def test_two_processes_run_an_example(both):
    result = json.loads((both[1].parent / "example" / "result.json").read_text())
    assert result["machine"]["processes"] == 2 and result["command"].startswith("torchrun --nproc-per-node 2 ")
    assert len(result["history"]) == 3 and 0 <= result["figures"]["test_error"] <= 1
