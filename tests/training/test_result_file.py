"""Result files say how to run them again; the page of results is what the files give."""

import json
import os
import shlex
import sys
from pathlib import Path

import pytest

from pdegcnn_examples.training import write_file, write_result
from pdegcnn_examples.training.result_file import FIELDS, ROOT, command
from tools import results_page

ABOUT = {"seed": 1, "parameters": 10, "seconds": 2.0, "epochs": 3, "data": "none"}


def test_the_pages_are_what_the_results_give():
    results = results_page.read()
    assert results_page.PAGE.read_text(encoding="utf-8") == results_page.page(results)
    runs = results_page.page(results, results_page.HEAD_OF_RUNS, results_page.commands)
    assert results_page.RUNS.read_text(encoding="utf-8") == runs


def test_committed_results_are_of_runs():
    for path, result in results_page.read():
        words = shlex.split(result["command"])
        script = next(word for word in words if word.endswith(".py"))
        assert (ROOT / script).is_file(), f"{path}: no such script"
        assert "--smoke" not in words, f"{path}: a smoke run is not a result"
        assert len(result["commit"].rstrip("+")) == 40, f"{path}: expected the commit, got {result['commit']!r}"
        assert result["figures"] and result["parameters"] > 0
        text = path.read_text(encoding="utf-8")
        assert not [w for w in words if w.startswith(("/", "~"))] and str(Path.home()) + "/" not in text


def test_a_result_has_everything(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(ROOT / "examples" / "x.py"), "--data", "/secret/place", "--net", "a b"])
    path = tmp_path / "r.json"
    made = write_result(path, "vessels", "pde", {"auc": 0.5}, **ABOUT, settings={"rate": 1.0})
    assert json.loads(path.read_text()) == made and set(FIELDS) <= set(made)
    assert made["command"] == "python examples/x.py --data $DATA --net 'a b'"
    assert made["machine"]["cores"] == os.cpu_count() and made["machine"]["threads"] >= 1
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--data=/a/b"], "--data=$DATA"),
        (["--out", "/a/b/run-1"], "--out run-1"),
        (["--out=/a/b/run-1"], "--out=run-1"),
        (["--out", "runs/x"], "--out runs/x"),
    ],
)
def test_commands_name_no_folders_of_one_machine(words, line, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(ROOT / "examples" / "x.py"), *words])
    assert command() == f"python examples/x.py {line}"


def test_rows_are_means_over_seeds(tmp_path):
    for seed, error in ((0, 0.02), (1, 0.03)):
        about = ABOUT | {"seed": seed}
        write_result(tmp_path / f"{seed}.json", "rotated_digits", "small", {"test_error": error}, **about)
    results = results_page.read(tmp_path)
    text = results_page.page(results)
    assert "| PDE-G-CNN, small | 10 | 2.50 ± 0.71 | 3 | 2 s | 0, 1 |" in text and "DAVIS" not in text
    assert results_page.page(results, results_page.HEAD_OF_RUNS, results_page.commands).count("(../results/") == 2


def test_tables_compare_equal_epochs_only(tmp_path):
    for row, seed, epochs in (("small", 0, 6), ("small", 1, 6), ("cnn", 0, 6), ("large", 0, 32), ("small", 2, 17)):
        about = ABOUT | {"seed": seed, "epochs": epochs}
        write_result(tmp_path / f"{row}-{epochs}-{seed}.json", "rotated_digits", row, {"test_error": 0.01}, **about)
    equal, alone = results_page.budgets(results_page.read(tmp_path))
    assert {e: sorted(run["row"] for _, run in runs) for e, runs in equal.items()} == {6: ["cnn", "small", "small"]}
    assert sorted(run["epochs"] for _, run in alone) == [17, 32]
    text = results_page.page(results_page.read(tmp_path))
    assert (
        text.index("6 epochs of each")
        < text.index("| CNN |")
        < text.index(results_page.ALONE)
        < text.index("PDE-G-CNN, large")
    )
    (tmp_path / "cnn-6-0.json").unlink()
    assert "epochs of each" not in results_page.page(results_page.read(tmp_path))


def test_files_that_are_no_results(tmp_path):
    made = write_result(tmp_path / "r.json", "vessels", "pde", {"auc": 0.5}, **ABOUT)
    (tmp_path / "r.json").write_text(json.dumps({k: v for k, v in made.items() if k != "command"}))
    with pytest.raises(ValueError, match=r"r.json: expected the fields .*; command missing"):
        results_page.read(tmp_path)
    (tmp_path / "r.json").write_text(json.dumps(made | {"recipe": "cake"}))
    with pytest.raises(ValueError, match="got 'cake'"):
        results_page.read(tmp_path)


@pytest.mark.parametrize("name", ["a" * 251 + ".txt", "é" * 127, "." + "a" * 250, "a." + "b" * 240])
def test_every_name_that_the_disk_takes_can_be_written(name, tmp_path):
    write_file(tmp_path / name, lambda fresh: fresh.write_text("new"))
    assert [p.name for p in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "new"


def test_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "a.txt"
    write_file(path, lambda fresh: fresh.write_text("old"))

    def fail(fresh):
        fresh.write_text("half")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write_file(path, fail)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
