"""The Lightning example trains, writes a network that needs no Lightning, and says what is missing or wrong."""

import json
import sys

import pytest
import torch

import pdegcnn as pg
from pdegcnn_examples.datasets import rotated_digits


@pytest.fixture
def run(run):
    """As for all examples, this one."""
    return lambda *arguments: run("lightning_digits.py", *arguments)


def test_smoke_writes_the_network_that_was_tested(run, tmp_path):
    out = tmp_path / "made"
    printed = run("--smoke", "--out", out)
    assert [p.name for p in tmp_path.iterdir()] == ["made"]
    assert {p.name for p in out.iterdir()} == {"digits.safetensors", "results.json"}
    results = json.loads((out / "results.json").read_text())
    assert all(name in printed for name in results)
    test, model = rotated_digits(60, 0).test, pg.load(out / "digits.safetensors").eval()
    with torch.no_grad():
        right = (model(test.images).argmax(1) == test.labels).float().mean()
    assert float(right) == pytest.approx(results["test_accuracy"])


def test_without_lightning_it_says_how_to_get_it(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning", None)
    assert "pip install lightning" in run("--smoke")


def test_errors_name_the_option(run, tmp_path):
    assert "--epochs: expected a number >= 1, got 0" in run("--epochs", 0)
    assert "--seed: expected a number >= 0, got -1" in run("--seed", -1)
    (tmp_path / "mine").write_text("kept")
    assert "was not written by this example" in run("--out", tmp_path)
