"""Files of strangers: nothing in them is executed, whatever they hold in the place of numbers."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pdegcnn as pg
import pdegcnn_examples
from pdegcnn_examples import training
from pdegcnn_examples.training.files import read_checkpoint

from ..cases import MESH

SOURCES = [p for module in (pg, pdegcnn_examples) for p in sorted(Path(module.__file__).parent.rglob("*.py"))]


class Trap:
    """What writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    mark = tmp_path / "was executed"
    pickle.loads(pickle.dumps(Trap(mark)))
    assert mark.exists()  # the trap works
    mark.unlink()
    return mark


def test_networks(tmp_path: Path, mark: Path) -> None:
    for save in (torch.save, lambda trap, path: path.write_bytes(pickle.dumps(trap))):
        save(Trap(mark), tmp_path / "model.safetensors")
        with pytest.raises(ValueError, match="path"):
            pg.load(tmp_path / "model.safetensors")
    assert not mark.exists()


def test_checkpoints(tmp_path: Path, mark: Path) -> None:
    for content in (Trap(mark), {"state_dict": {}, "loops": Trap(mark)}):
        torch.save(content, tmp_path / "last.ckpt")
        with pytest.raises(ValueError, match="expected a readable checkpoint, got a damaged one"):
            read_checkpoint(tmp_path / "last.ckpt")
        task = training.LossAlone(8, lambda chosen: torch.zeros((), requires_grad=True))
        with pytest.raises(ValueError, match="expected a readable checkpoint, got a damaged one"):
            training.fit(torch.nn.Linear(2, 2), task, training.Settings(1), tmp_path)
    assert not mark.exists()


def test_meshes(tmp_path: Path, mark: Path) -> None:
    MESH.save(tmp_path / "mesh.npz")
    with np.load(tmp_path / "mesh.npz") as store:
        arrays = dict(store)
    for name in arrays:
        np.savez(tmp_path / "mesh.npz", **(arrays | {name: np.array([Trap(mark)], dtype=object)}))
        with pytest.raises(ValueError):
            pg.Mesh.load(tmp_path / "mesh.npz")
    assert not mark.exists()


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_no_source_unpickles(path: Path) -> None:
    """``torch.load`` of weights only, ``np.load`` without pickles, and nothing else that executes what it reads."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name, options = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        if name.endswith("torch.load"):
            assert options.get("weights_only") == "True", ast.unparse(node)
        if name in ("np.load", "numpy.load"):
            assert options.get("allow_pickle") == "False", ast.unparse(node)
        assert name not in ("pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "eval", "exec"), name
