"""The run that ``make gpu`` starts: what it records, and a rehearsal of its short parts."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import agreement, machinery, operator_calls
from benchmarks.gpu.record import FIELDS, Record
from tests import cases

ROOT = Path(__file__).parents[2]


def failing():
    raise RuntimeError("a kernel | failed\non two lines")


def test_a_failure_is_a_row_and_the_page_says_so(tmp_path):
    record = Record(tmp_path, "here", "cpu", 60)
    record.attempt("part", "bad", failing, "float32")
    record.attempt("part", "absent", lambda: __import__("package_that_is_absent"))
    record.add("part", "fast", "value", 1.25, "ms")
    page, table = record.write()
    assert (page.name, table.name) == ("gpu-here.md", "gpu-here.csv") and record.wrong == 1
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["verdict"] for r in rows] == ["wrong", "left out", "measured"] and list(rows[0]) == list(FIELDS)
    text = page.read_text()
    assert "1 wrong" in text and "no figure here is a time of a GPU" in text
    assert all(line.count("|") == len(FIELDS) for line in text.splitlines() if line.startswith("| "))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["gpu-here.csv", "gpu-here.md"]


def test_nothing_begins_when_time_is_used_up(tmp_path):
    record = Record(tmp_path, "here", "cpu", -1)
    record.attempt("part", "case", failing)
    assert [r["verdict"] for r in record.rows] == ["left out"]


def test_a_wrong_value_is_found(tmp_path):
    record = Record(tmp_path, "here", "cpu", 60)

    def run(device, dtype, calls=[]):  # noqa: B006
        calls.append(dtype)
        return [torch.ones(3, dtype=dtype) * (1.1 if len(calls) == 3 else 1)]

    agreement.judge(record, "part", "case", torch.float32, run)
    assert record.wrong == 1


@pytest.mark.parametrize("a, b", [(torch.nan, 1.0), (torch.inf, -1.0), (1.0, torch.inf)])
def test_nan_and_infinity_must_agree(a, b):
    assert agreement.distance([torch.tensor([a])], [torch.tensor([b])]) == float("inf")


def test_every_operator_has_a_call():
    assert not operator_calls.missing()


@pytest.mark.parametrize("name", operator_calls.registry.operators())
def test_calls_have_gradients(name):
    for _, call in operator_calls.prepare(name, operator_calls.TINY, "cpu", torch.float32, "torch"):
        values = agreement.with_gradients(*call)
        assert len(values) > len(call.leaves) and all(v.numel() for v in values)


def test_layers_networks_and_functions_are_compared(tmp_path, monkeypatch):
    """The first of each kind, on the CPU."""
    monkeypatch.setattr(
        cases, "LAYERS", [c for c in cases.LAYERS if c.name in ("nn.ChannelLinear", "models.rotated_digits")]
    )
    monkeypatch.setattr(cases, "FUNCTIONS", [c for c in cases.FUNCTIONS if c.name == "functional.resample"])
    record = Record(tmp_path, "here", "cpu", 60)
    agreement.check_layers(record, True)
    assert {row["part"] for row in record.rows} == {"layers", "networks", "functions"}
    assert all(row["verdict"] == "good" for row in record.rows)


def test_a_step_is_replayed_without_a_gpu():
    net, x = machinery.network(True, "cpu")
    plain = machinery.step(net, net, x)
    came = machinery.replay(lambda: machinery.step(net, net, x), "cpu")
    assert agreement.distance(came, plain) == 0


def test_rehearsal_of_compilation_autocast_and_memory():
    command = [sys.executable, "-m", "benchmarks.gpu.run", "--dry", "--parts", "torch"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'examples'}"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    assert "aot_eager" in run.stdout and "0 wrong" in run.stdout
