"""Folders of results are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pdegcnn_examples.output import training_folder, write_folder


def fill(folder: Path) -> None:
    (folder / "results.json").write_text("new")


def contents(folder: Path) -> dict[str, str | None]:
    """All files below a folder with their text; None for folders."""
    return {str(p.relative_to(folder)): p.read_text() if p.is_file() else None for p in folder.rglob("*")}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.json").write_text("old")
    return tmp_path / "out"


@pytest.mark.parametrize("link", [False, True])
def test_new_results_take_the_place_of_old_ones(old: Path, link: bool) -> None:
    folder = old.with_name("link") if link else old
    if link:
        folder.symlink_to(old)
    training_folder(folder).mkdir()
    write_folder(folder, fill)
    write_folder(old.parent / "further" / "out", fill)
    names = ["further", "further/out", "further/out/results.json", "out", "out/results.json"] + ["link"] * link
    assert contents(old.parent) == {n: "new" if "json" in n else None for n in names} and folder.is_symlink() == link
    assert old.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("step", ["fill", "first move", "second move"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_changes_nothing(
    step: str, error: type[BaseException], old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, replace, calls = contents(old.parent), os.replace, []

    def failing(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 1 + (step == "second move"):
            raise error
        replace(source, target)

    def stopped(folder: Path) -> None:
        fill(folder)
        raise error

    monkeypatch.setattr("os.replace", failing)
    with pytest.raises(error):
        write_folder(old, stopped if step == "fill" else fill)
    assert contents(old.parent) == before


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(NotADirectoryError, match="folder: expected a folder or a new name, got the file '.*out'"):
        write_folder(tmp_path / "out", fill)
    assert contents(tmp_path) == {"out": "mine"}
