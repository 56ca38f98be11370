"""Labelled volumes: drawn tubes, and the nuclei of a package that is never imported."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pdegcnn_examples.datasets import drawn_tubes, nuclei


def test_tubes_are_round_in_units_of_length_and_drawn_again_alike() -> None:
    volume, again, other = (drawn_tubes((12, 20, 24), 3, seed) for seed in (0, 0, 1))
    assert torch.equal(volume.values, again.values) and not torch.equal(volume.labels, other.labels)
    assert volume.values.shape == volume.labels.shape == (12, 20, 24)
    assert volume.spacing == (2.0, 1.0, 1.0)
    assert volume.values.mean().abs() < 1e-5 and abs(float(volume.values.std()) - 1) < 1e-2
    assert 0.01 < float(volume.labels.float().mean()) < 0.5
    assert volume.values[volume.labels].mean() > volume.values[~volume.labels].mean() + 0.5


def test_wrong_sizes_are_named() -> None:
    for arguments, text in (({"size": (0, 2, 2)}, "size"), ({"size": (4, 4, 4), "count": 0}, "count")):
        with pytest.raises(ValueError, match=f"{text}: expected"):
            drawn_tubes(**arguments)
    with pytest.raises(ValueError, match="spacing: expected"):
        drawn_tubes((4, 4, 4), spacing=0.0)


def test_nuclei_come_from_an_installed_package_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "stardist" / "data" / "images"
    folder.mkdir(parents=True)
    (tmp_path / "stardist" / "__init__.py").write_text("raise RuntimeError('imported')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"stardist: expected the package.*has no img3d\.tif"):
        nuclei()
    values = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    for name, array in (("img3d.tif", values), ("mask3d.tif", values % 3)):
        pages = [Image.fromarray(page) for page in array]
        pages[0].save(folder / name, save_all=True, append_images=pages[1:])
    volume = nuclei()
    assert "stardist" not in sys.modules
    assert volume.values.flatten().argsort().tolist() == list(range(24))
    assert torch.equal(volume.labels, torch.from_numpy(values % 3 > 0))


def test_without_the_package_the_loader_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="stardist: expected the package stardist to be installed"):
        nuclei()
