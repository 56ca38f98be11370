"""One process: a training that was stopped ends as an unbroken one, and settings do what they say."""

import csv
import itertools
import os
import signal
import sys
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn

import pdegcnn as pg
from pdegcnn_examples.training import LossAlone, Settings, fit, read_weights
from pdegcnn_examples.training.result_file import commit
from pdegcnn_examples.training.settings import SCHEDULES, epochs_of


class Line:
    """Learn a parabola from noisy, dropped-out features; calls ``at_end`` in the loss after this many steps."""

    count = 50

    def __init__(self, stop=None, at_end=None):
        self.x = torch.linspace(-1, 1, self.count)[:, None]
        self.left, self.at_end = stop, at_end

    def loss(self, model, chosen, random):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.at_end()
        x = self.x[chosen] + torch.from_numpy(random.normal(0, 0.01, (len(chosen), 1))).float()
        return (model(x) - x**2).square().mean()

    def evaluate(self, model):
        return {"score": -float((model(self.x) - self.x**2).square().mean())}


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(1, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 1))


def how(**changed):
    return Settings(**({"epochs": 3, "batch": 8, "average": 0.9, "clip": 1.0, "score": "score", "seed": 3} | changed))


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def timeless(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def interrupt():
    raise KeyboardInterrupt


def fail():
    raise OSError("no space")


def send(number):
    return lambda: os.kill(os.getpid(), number)


STOPS = {
    "exception": (fail, OSError, None),
    "Ctrl-C at once": (interrupt, SystemExit, 1),
    "Ctrl-C": (send(signal.SIGINT), SystemExit, 130),
    "SIGTERM": (send(signal.SIGTERM), SystemExit, 143),
}


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_stopped_equals_unbroken(tmp_path, average, capsys):
    """To the bit: weights, averaged weights and every figure but the clock's, wherever it stopped and why.

    Steps 7 and 14 are the last of an epoch.
    """
    settings = how(average=average, patience=10)
    whole = fit(network(), Line(), settings, tmp_path / "whole")
    assert len(whole.history) == 3
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for stop, name in zip((1, 6, 7, 13, 14, 15), itertools.cycle(STOPS)):
        at_end, error, code = STOPS[name]
        folder = tmp_path / f"parts-{stop}"
        with pytest.raises(error) as raised:
            fit(network(), Line(stop, at_end), settings, folder)
        assert getattr(raised.value, "code", None) == code
        assert (folder / "last.ckpt").exists() and not (folder / "weights.safetensors").exists()
        assert "The same command continues from there" in capsys.readouterr().err
        parts = fit(network(), Line(), settings, folder)
        assert same(whole.model.state_dict(), parts.model.state_dict()), (stop, name)
        assert timeless(whole.history) == timeless(parts.history), (stop, name)
        assert same(read_weights(folder / "weights.safetensors"), whole.model.state_dict())
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_the_seed_and_the_augmentation_matter(tmp_path):
    """The law above could fail: another seed gives other weights."""
    first, second = (fit(network(), Line(), how(seed=s, epochs=1), tmp_path / str(s)) for s in (0, 1))
    assert not same(first.model.state_dict(), second.model.state_dict())


def test_the_last_step_before_a_break_is_never_half_a_step(tmp_path, monkeypatch):
    """An error within the optimiser, and one while scores are computed, leave the checkpoint that was there."""

    class Scoring(Line):
        def evaluate(self, model):
            raise OSError("no scores")

    with pytest.raises(OSError, match="no scores"):
        fit(network(), Scoring(), how(save_seconds=1e-9), tmp_path / "scores")
    kept = torch.load(tmp_path / "scores" / "last.ckpt", weights_only=True)
    assert kept["global_step"] == 6  # the seventh ends the epoch
    step = torch.optim.AdamW.step
    left = iter([True] * 4)

    def broken(self, *arguments, **options):
        step(self, *arguments, **options)
        if not next(left, False):
            raise OSError("half a step")

    monkeypatch.setattr(torch.optim.AdamW, "step", broken)
    with pytest.raises(OSError, match="half a step"):
        fit(network(), Line(), how(save_seconds=1e-9), tmp_path / "step")
    assert torch.load(tmp_path / "step" / "last.ckpt", weights_only=True)["global_step"] == 4


def test_nothing_is_saved_more_often_than_asked(tmp_path, monkeypatch):
    """A clock that moves a second a look: checkpoints are ``save_seconds`` apart, and one is at the end."""
    ticks, saved = itertools.count(), []
    clock = SimpleNamespace(perf_counter=lambda: 0.0, monotonic=lambda: float(next(ticks)))
    monkeypatch.setattr("pdegcnn_examples.training.callbacks.time", clock)
    write = TorchCheckpointIO.save_checkpoint

    def watched(self, checkpoint, path, storage_options=None):
        saved.append(checkpoint["global_step"])
        write(self, checkpoint, path, storage_options)

    monkeypatch.setattr("pdegcnn_examples.training.callbacks.WholeFiles.save_checkpoint", watched)
    fit(network(), Line(), how(save_seconds=8.0), tmp_path)
    assert len(saved) == 3 and saved[-1] == 21 and saved == sorted(saved)


def test_time_budget_ends_training_and_the_rate(tmp_path, monkeypatch):
    """By a clock that moves 1/128 s a look; scoring is not training."""
    ticks = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: next(ticks) / 128, monotonic=lambda: 0.0)  # exact in binary
    monkeypatch.setattr("pdegcnn_examples.training.callbacks.time", clock)

    class Slow(Line):
        def evaluate(self, model):
            for _ in range(100):
                clock.perf_counter()
            return super().evaluate(model)

    settings = how(epochs=10**6, seconds=30 / 128)
    done = fit(network(), Slow(), settings, tmp_path)
    assert done.seconds == 30 / 128 and done.steps == 30
    rates = [row["rate"] for row in done.history]
    assert rates[-1] < 0.02 * max(rates) and len(rates) == 5 and "score" in done.history[-1]
    again = fit(network(), Slow(), settings, tmp_path)  # nothing is left
    assert again.steps == done.steps and again.history == done.history
    assert same(again.model.state_dict(), done.model.state_dict())


def test_early_stopping_keeps_the_best(tmp_path):
    class Falling(Line):
        scores = iter([1.0, 3.0, 2.0, 2.5, 9.0])

        def evaluate(self, model):
            value = next(self.scores)
            if value == 3.0:
                self.best = {k: v.clone() for k, v in model.state_dict().items()}
            return {"score": value}

    task, settings = Falling(), how(patience=2, epochs=20)
    done = fit(network(), task, settings, tmp_path)
    assert [row["score"] for row in done.history] == [1.0, 3.0, 2.0, 2.5]
    assert same(done.model.state_dict(), task.best)
    again = fit(network(), task, settings, tmp_path)  # nothing is left
    assert same(again.model.state_dict(), task.best) and again.history == done.history
    with pytest.raises(ValueError, match="score: expected one of score, got 'accuracy'"):
        fit(network(), Line(), how(patience=2, score="accuracy"), tmp_path / "other")


@pytest.mark.parametrize("patience", [None, 1])
def test_the_last_epoch_is_scored_whenever_training_ends(tmp_path, monkeypatch, patience):
    """Scores every four epochs: six epochs are scored twice, and so is a budget that ends in the sixth."""
    rare = how(epochs=6, evaluate_every=4, patience=patience)
    done = fit(network(), Line(), rare, tmp_path / "epochs")
    assert ["score" in row for row in done.history] == [False, False, False, True, False, True]
    ticks = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: next(ticks) / 128, monotonic=lambda: 0.0)
    monkeypatch.setattr("pdegcnn_examples.training.callbacks.time", clock)
    short = how(epochs=1000, evaluate_every=4, patience=patience, seconds=10 / 128)
    done = fit(network(), Line(), short, tmp_path / "budget")
    assert ["score" in row for row in done.history] == [False, True]
    assert done.steps == 10 and done.epochs == 10 / 7


def test_other_runs_and_damage_are_refused(tmp_path):
    settings = how(epochs=1)
    fit(network(), Line(), settings, tmp_path, {"band": "8"})
    with pytest.raises(ValueError, match="folder: .* is of a run with other settings .*'rate': 0.01"):
        fit(network(), Line(), how(epochs=1, rate=0.5), tmp_path, {"band": "8"})
    with pytest.raises(ValueError, match="other settings .*'band': '8'"):
        fit(network(), Line(), settings, tmp_path, {"band": "16"})
    with pytest.raises(ValueError, match="other settings .*'parameters': "):
        fit(nn.Linear(1, 1), Line(), settings, tmp_path, {"band": "8"})
    other = Line()
    other.x = other.x.flip(0)
    with pytest.raises(ValueError, match="other settings .*'checksum of the samples': "):
        fit(network(), other, settings, tmp_path, {"band": "8"})
    path = tmp_path / "last.ckpt"
    for damaged in (b"x", path.read_bytes()[:-9], b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"last.ckpt: expected a readable checkpoint, got a damaged one"):
            fit(network(), Line(), settings, tmp_path, {"band": "8"})


def test_a_loss_that_is_not_finite_ends_training(tmp_path):
    with pytest.raises(FloatingPointError, match="step 0"):
        fit(network(), LossAlone(50, lambda chosen: torch.tensor(float("nan"), requires_grad=True)), how(), tmp_path)


@pytest.mark.parametrize("at", [0, 9])
def test_a_gradient_that_is_not_finite_ends_training_before_it_reaches_the_weights(tmp_path, at, capsys):
    """The loss is finite. The last checkpoint goes on as if nothing had happened, once the cause is removed."""

    class Torn(Line):
        steps = 0

        def loss(self, model, chosen, random):
            self.steps += 1
            extra = (model[0].weight * 0).abs().sum().sqrt() if self.steps == at + 1 else 0
            return super().loss(model, chosen, random) + extra

    settings = how(epochs=2, save_seconds=1e-9)
    with pytest.raises(FloatingPointError, match=rf"^gradient: expected finite numbers at step {at}, .* 0.weight"):
        fit(network(), Torn(), settings, tmp_path / "torn")
    assert "continues" not in capsys.readouterr().err
    whole = fit(network(), Line(), settings, tmp_path / "whole")
    again = fit(network(), Line(), settings, tmp_path / "torn")
    assert same(again.model.state_dict(), whole.model.state_dict())


def test_a_result_names_the_code_that_ran(tmp_path, monkeypatch):
    """Also that of an earlier part of the run; files that change in the meantime do not count."""
    task = Line(9, fail)
    monkeypatch.setattr("pdegcnn_examples.training.module.commit", lambda: "a")
    with pytest.raises(OSError, match="no space"):
        fit(network(), task, how(), tmp_path)
    monkeypatch.setattr("pdegcnn_examples.training.module.commit", lambda: "b")
    assert fit(network(), Line(), how(), tmp_path).commits == ["a", "b"]
    assert commit() is commit()


@pytest.mark.parametrize("steps", [1, 7, 10, 11, 12, 300])
def test_steps_are_divided_into_equal_epochs(steps):
    count = epochs_of(steps)
    assert steps % count == 0 and count >= min(10, steps)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch", 2.5),
        ("rate", -1.0),
        ("weight_decay", -0.1),
        ("seconds", float("nan")),
        ("average", 1.0),
        ("schedule", "step"),
        ("precision", "int8"),
        ("patience", 0),
        ("clip", 0.0),
        ("seed", -1),
    ],
)
def test_bad_settings(name, value):
    with pytest.raises((ValueError, TypeError), match=f"^{name}: expected"):
        how(**{name: value})


def test_averages_are_whole_or_weights_are_sharded():
    with pytest.raises(ValueError, match="^average: expected 0 with sharded weights, got 0.9"):
        how(sharded=True)


def test_batch_too_large_for_the_samples(tmp_path):
    with pytest.raises(ValueError, match="^batch: expected"):
        fit(network(), LossAlone(1, lambda chosen: None), how(), tmp_path)


@pytest.mark.parametrize("name", [n for n in SCHEDULES if n != "constant"])
def test_schedules_end_at_zero_and_reach_one(name):
    rates = [SCHEDULES[name](i / 100) for i in range(101)]
    assert max(rates) == pytest.approx(1) and rates[-1] == pytest.approx(0) and min(rates) >= 0
    top = rates.index(max(rates))
    assert rates[top:] == sorted(rates[top:], reverse=True) and rates[:top] == sorted(rates[:top])


def test_tensorboard_gets_every_figure(tmp_path, monkeypatch):
    """Into a writer of our own: the real one is an optional package; without it training does not start."""
    written = []
    board = SimpleNamespace(log_metrics=lambda metrics, step: written.append((tuple(metrics), step)))
    monkeypatch.setattr("pdegcnn_examples.training.run._board", lambda folder: _logger(board))
    done = fit(network(), Line(), how(tensorboard=True, epochs=2), tmp_path / "with")
    assert written == [(tuple(row), row["step"]) for row in done.history]
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match="^tensorboard: expected the package"):
        fit(network(), Line(), how(tensorboard=True), tmp_path / "without")


def _logger(board):
    from lightning.pytorch.loggers.logger import DummyLogger

    logger = DummyLogger()
    logger.log_metrics = board.log_metrics
    return logger


def test_autocast_trains(tmp_path):
    done = fit(network(), Line(), how(precision="bfloat16", epochs=4), tmp_path)
    assert all(p.dtype == torch.float32 for p in done.model.parameters())
    assert done.history[-1]["loss"] < done.history[0]["loss"]


def test_averages_follow_slowly_and_copy_counters(tmp_path):
    """The mean of weights is what the formula of the docstring says, over all steps from the first."""
    seen = []

    class Watched(Line):
        def loss(self, model, chosen, random):
            seen.append({k: v.detach().clone() for k, v in model.state_dict().items()})
            return super().loss(model, chosen, random)

    model = network()
    done = fit(model, Watched(), how(epochs=2), tmp_path)
    states = [*seen[1:], model.state_dict()]
    mean = states[0]
    for count, now in enumerate(states[1:], 1):
        decay = min(0.9, (2 + count) / (11 + count))
        mean = {k: decay * mean[k] + (1 - decay) * now[k] if now[k].is_floating_point() else now[k] for k in now}
    for name, value in done.model.state_dict().items():
        torch.testing.assert_close(value, mean[name])
    assert int(done.model[1].num_batches_tracked) == 14


def test_networks_of_the_library_are_averaged_and_scored_as_trained(tmp_path):
    """PDE layers keep kernels in eval mode: what is scored are the averages of the moment, not a kernel of before."""
    x = torch.rand(8, 1, 28, 28)
    outputs = []

    class Watched(LossAlone):
        def evaluate(self, model):
            outputs.append(model(x))
            return {}

    torch.manual_seed(0)
    model = pg.models.rotated_digits(classes=2, space=pg.SE2(4), channels=(2, 2), size=7, kernel_size=3)
    task = Watched(8, lambda chosen: model(x[chosen]).square().mean())
    done = fit(model, task, Settings(epochs=2, batch=4, average=0.5), tmp_path)
    with torch.no_grad():
        assert torch.equal(done.model(x), outputs[-1]) and not torch.equal(*outputs)


def test_the_table_of_epochs_is_a_file(tmp_path):
    done = fit(network(), Line(), how(epochs=2), tmp_path)
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [{k: float(v) for k, v in row.items()} for row in rows] == done.history
    assert set(rows[0]) == {"epoch", "step", "seconds", "rate", "loss", "score"}
    assert {p.name for p in tmp_path.iterdir()} == {"last.ckpt", "history.csv", "weights.safetensors"}
