"""Examples run inside the test process, as from the command line."""

import importlib
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def module(monkeypatch):
    """Imports an example; no data sets are found by the environment."""
    monkeypatch.delenv("PDEGCNN_DATA", raising=False)
    return lambda name: importlib.import_module(f"examples.{name}")


@pytest.fixture
def run(module, monkeypatch, capsys):
    """Runs an example as a program; what it printed or, if it ended early, its message."""

    def call(name, *arguments):
        monkeypatch.setattr(sys, "argv", [str(EXAMPLES / name), *map(str, arguments)])
        try:
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        except SystemExit as end:
            return f"{end.code} {capsys.readouterr().err}"
        return capsys.readouterr().out

    return call


@pytest.fixture
def example(module, monkeypatch):
    """Runs the ``main`` of an example, and returns its module."""

    def call(name, *arguments):
        loaded = module(name)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        loaded.main()
        return loaded

    return call
