"""The training loop: a killed run ends as an unbroken one, several processes learn what one learns."""

import csv
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pdegcnn.recipes import Settings, checkpoint, fit, read_weights
from pdegcnn.recipes.loop import SCHEDULES
from tests.recipes import program

PROGRAM = Path(__file__).with_name("program.py")


class Line:
    """Learn a quadratic from noisy, dropped-out features; ``stop`` ends the process's patience after so many steps."""

    count = 50

    def __init__(self, stop=None):
        self.x = torch.linspace(-1, 1, self.count)[:, None]
        self.left = stop

    def loss(self, model, chosen, random):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        x = self.x[chosen] + torch.from_numpy(random.normal(0, 0.01, (len(chosen), 1))).float()
        return (model(x) - x**2).square().mean()

    def evaluate(self, model):
        return {"score": -float((model(self.x) - self.x**2).square().mean())}


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(1, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 1))


def how(**changed):
    return Settings(**({"epochs": 4, "batch": 8, "average": 0.9, "clip": 1.0, "score": "score", "seed": 3} | changed))


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def timeless(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.mark.parametrize(("stop", "average"), [(1, 0.9), (6, 0.0), (7, 0.9), (13, 0.9)])
def test_interrupted_equals_uninterrupted(tmp_path, stop, average):
    """To the bit: weights, averaged weights and every figure but the clock's."""
    settings = how(save_seconds=1e-9, average=average, patience=10)
    whole = fit(network(), Line(), settings, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(network(), Line(stop), settings, tmp_path / "parts")
    parts = fit(network(), Line(), settings, tmp_path / "parts")
    assert same(whole.model.state_dict(), parts.model.state_dict())
    assert timeless(whole.history) == timeless(parts.history) and len(whole.history) == 4
    weights = [read_weights(tmp_path / name / "weights.safetensors") for name in ("whole", "parts")]
    assert same(*weights) and same(weights[0], whole.model.state_dict())


def test_the_seed_and_the_augmentation_matter(tmp_path):
    """The law above could fail: another seed gives other weights."""
    first, second = (fit(network(), Line(), how(seed=s), tmp_path / str(s)).model.state_dict() for s in (0, 1))
    assert not same(first, second)


def run(folder, *arguments, wait=True, launcher=()):
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONPATH": str(PROGRAM.parents[2])}
    command = [sys.executable, *launcher, str(PROGRAM), str(folder), *map(str, arguments)]
    started = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if not wait:
        return started
    _, errors = started.communicate()
    assert started.returncode == 0, errors
    return None


def test_killed_process_goes_on(tmp_path):
    """kill -9 in the middle of an epoch, start again: the files of an unbroken run."""
    program.main([str(tmp_path / "whole")])
    hanging = run(tmp_path / "parts", "--hang-at", 17, wait=False)
    while not (tmp_path / "parts" / "hangs").exists():
        assert hanging.poll() is None, hanging.communicate()[1]
        time.sleep(0.01)
    hanging.send_signal(signal.SIGKILL)
    hanging.communicate()
    (found,) = (tmp_path / "parts").glob("checkpoint-*")
    assert int(found.name.partition("-")[2]) == 17
    program.main([str(tmp_path / "parts")])
    names = ("whole", "parts")
    assert same(*(read_weights(tmp_path / name / "weights.safetensors") for name in names))
    tables = [list(csv.DictReader((tmp_path / name / "history.csv").open())) for name in names]
    assert timeless(tables[0]) == timeless(tables[1]) and len(tables[0]) == 6


def test_two_processes_learn_what_one_learns(tmp_path):
    """Without normalisation and dropout the shares of a batch add up: equal losses to rounding."""
    program.main([str(tmp_path / "one"), "--plain"])
    run(tmp_path / "two", "--plain", launcher=("-m", "torch.distributed.run", "--nproc-per-node", "2"))
    one, two = (list(csv.DictReader((tmp_path / name / "history.csv").open())) for name in ("one", "two"))
    assert len(one) == len(two) == 6
    for a, b in zip(one, two):
        assert float(a["loss"]) == pytest.approx(float(b["loss"]), rel=1e-5)
        assert float(a["score"]) == pytest.approx(float(b["score"]), rel=1e-5)
    assert float(one[-1]["loss"]) < 0.9 * float(one[0]["loss"])


def test_time_budget_ends_training_and_the_rate(tmp_path, monkeypatch):
    """By a clock that moves 1/128 s a look; scoring is not training."""
    ticks = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: next(ticks) / 128)  # exact in binary
    monkeypatch.setattr("pdegcnn.recipes.loop.time", clock)

    class Slow(Line):
        def evaluate(self, model):
            for _ in range(100):
                clock.perf_counter()
            return super().evaluate(model)

    settings = how(epochs=10**6, seconds=60 / 128)
    outcome = fit(network(), Slow(), settings, tmp_path)
    assert outcome.seconds == 60 / 128 and outcome.steps == 60
    rates = [row["rate"] for row in outcome.history]
    assert rates[-1] < 0.01 * max(rates) and len(rates) == 9
    again = fit(network(), Slow(), settings, tmp_path)  # nothing is left
    assert again.steps == outcome.steps and same(again.model.state_dict(), outcome.model.state_dict())


def test_early_stopping_keeps_the_best(tmp_path):
    class Falling(Line):
        scores = iter([1.0, 3.0, 2.0, 2.5, 9.0])

        def evaluate(self, model):
            value = next(self.scores)
            if value == 3.0:
                self.best = {k: v.clone() for k, v in model.state_dict().items()}
            return {"score": value}

    task = Falling()
    outcome = fit(network(), task, how(patience=2, epochs=20), tmp_path)
    assert [row["score"] for row in outcome.history] == [1.0, 3.0, 2.0, 2.5]
    assert same(outcome.model.state_dict(), task.best)


def test_other_settings_and_damage_are_refused(tmp_path):
    fit(network(), Line(), how(), tmp_path)
    with pytest.raises(ValueError, match="other settings.*'rate': 0.01"):
        fit(network(), Line(), how(rate=0.5), tmp_path)
    (folder,) = tmp_path.glob("checkpoint-*")
    (folder / "optimizer.pt").write_bytes(b"x")
    with pytest.raises(ValueError, match="damaged"):
        fit(network(), Line(), how(), tmp_path)
    (folder / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"model.safetensors: expected a readable safetensors file"):
        fit(network(), Line(), how(), tmp_path)


def test_a_loss_that_is_not_finite_ends_training(tmp_path):
    class Broken(Line):
        def loss(self, model, chosen, random):
            return super().loss(model, chosen, random) * float("nan")

    with pytest.raises(FloatingPointError, match="step 0"):
        fit(network(), Broken(), how(), tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch", 2.5),
        ("rate", -1.0),
        ("seconds", float("nan")),
        ("average", 1.0),
        ("schedule", "step"),
        ("precision", "int8"),
        ("patience", 0),
        ("clip", 0.0),
    ],
)
def test_bad_settings(name, value):
    with pytest.raises((ValueError, TypeError), match=f"^{name}: expected"):
        how(**{name: value})


def test_batch_too_large_for_the_samples(tmp_path):
    class One(Line):
        count = 1

    with pytest.raises(ValueError, match="^batch: expected"):
        fit(network(), One(), how(), tmp_path)


@pytest.mark.parametrize("name", [n for n in SCHEDULES if n != "constant"])
def test_schedules_end_at_zero_and_reach_one(name):
    rates = [SCHEDULES[name](i / 100) for i in range(101)]
    assert max(rates) == pytest.approx(1) and rates[-1] == pytest.approx(0) and min(rates) >= 0
    top = rates.index(max(rates))
    assert rates[top:] == sorted(rates[top:], reverse=True) and rates[:top] == sorted(rates[:top])


def test_tensorboard_gets_every_figure(tmp_path, monkeypatch):
    """Into a writer of our own: the real one is an optional package; without it training does not start."""
    written = []

    class Writer(SimpleNamespace):
        def add_scalar(self, name, value, step):
            written.append((name, step))

        def close(self):
            written.append("closed")

    module = SimpleNamespace(SummaryWriter=lambda folder: Writer(folder=folder))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    outcome = fit(network(), Line(), how(tensorboard=True), tmp_path / "with")
    assert written[:-1] == [(name, row["step"]) for row in outcome.history for name in row]
    assert written[-1] == "closed"
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="^tensorboard: expected the package"):
        fit(network(), Line(), how(tensorboard=True), tmp_path / "without")


def test_autocast_trains(tmp_path):
    outcome = fit(network(), Line(), how(precision="bfloat16"), tmp_path)
    assert all(p.dtype == torch.float32 for p in outcome.model.parameters())
    assert outcome.history[-1]["loss"] < outcome.history[0]["loss"]


def test_checkpoint_state_is_plain_json(tmp_path):
    fit(network(), Line(), how(), tmp_path)
    (folder,) = tmp_path.glob("checkpoint-*")
    assert {p.name for p in folder.iterdir()} == {
        "model.safetensors", "averaged.safetensors", "optimizer.pt", "state.json"
    }  # fmt: skip
    assert json.loads((folder / "state.json").read_text())["step"] == 28


def test_there_is_always_a_whole_checkpoint(tmp_path, monkeypatch):
    """A step may be saved twice, within and after its epoch: the second replaces the first only once it is there."""
    replace, seen = os.replace, []

    def watched(source, target):
        newest = checkpoint.latest(tmp_path)
        seen.append(newest is not None and (newest / "optimizer.pt").is_file())
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    for value in (1, 2, 3):
        checkpoint.save(tmp_path, 7, {"model": {"w": torch.tensor([float(value)])}}, {}, {"value": value})
        assert all(seen[4:]) and len(seen) == 4 * value
        newest = checkpoint.latest(tmp_path)
        assert newest is not None and checkpoint.load(newest, torch.device("cpu"))[2] == {"value": value}
        assert len(list(tmp_path.iterdir())) == 1
