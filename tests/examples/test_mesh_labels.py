"""The mesh example runs, writes its picture, and its network sees neither frames nor rotations."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_smoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    report = importlib.import_module("mesh_labels").main(["--smoke", "--out", str(tmp_path)])
    assert (tmp_path / "labels.png").stat().st_size > 5000
    assert "gauge network" in capsys.readouterr().out
    for result in report.values():
        assert max(result["change"]) < 1e-5
        assert result["parameters"] <= report["gauge network"]["parameters"]
