"""The README tells the truth: its example runs, its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import readme_table

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)[0]  # the others need a photograph
    exec(compile(code, "README.md", "exec"), {})
    assert float(capsys.readouterr().out) < 1e-5


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", TEXT))
def test_links_lead_to_files(target: str) -> None:
    assert (ROOT / target).exists()


def test_the_speed_table_is_what_the_results_give() -> None:
    assert readme_table.rewritten(TEXT) == TEXT
