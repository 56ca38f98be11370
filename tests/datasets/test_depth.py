"""Scenes with depths: rendered rooms are exact, folders are read in metres, the photograph's depth is the formula's."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pdegcnn_examples.datasets import depth, motorcycle, nyu, rooms

SEED = st.integers(0, 2**31)


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


@given(SEED)
@settings(max_examples=10, deadline=None)
def test_rooms_are_their_seed(seed):
    made = rooms(2, 12, 16, seed)
    again = rooms(3, 12, 16, seed)
    assert made.images.shape == (2, 3, 12, 16) and made.depths.shape == (2, 12, 16)
    assert made.images.dtype == made.depths.dtype == torch.float32
    assert torch.equal(made.images, again.images[:2]) and torch.equal(made.depths, again.depths[:2])
    assert float(made.images.min()) >= 0 and float(made.images.max()) <= 1
    assert float(made.depths.min()) > 0 and float(made.depths.max()) < np.hypot(np.hypot(7, 7), 3.2)


@given(SEED)
@settings(max_examples=20, deadline=None)
def test_rays_meet_surfaces(seed):
    """The points lie on the ball, the box and the walls, to rounding; normals look back along the ray."""
    random = np.random.default_rng(seed)
    rays = random.normal(size=(20, 30, 3))
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    camera, size = np.array([1.0, 1.0, 1.5]), np.array([4.0, 5.0, 2.5])
    centre, half, angle = np.array([2.5, 2.0, 1.0]), np.array([0.5, 0.8, 1.0]), random.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    ball, box = depth._ball(camera, rays, centre, 0.7, 9), depth._box(camera, rays, centre, half, angle, 9)
    walls = depth._inside(camera, rays, size)
    for hit in (ball, box, walls):
        met = np.isfinite(hit.distance)
        assert met.any() and (hit.distance[met] > 0).all()
        assert ((hit.normal * rays).sum(-1)[met] <= 1e-12).all()
        assert np.linalg.norm(hit.normal, axis=-1)[met] == pytest.approx(1)
    points = [camera + np.where(np.isfinite(h.distance), h.distance, 0)[..., None] * rays for h in (ball, box, walls)]
    on_ball = np.linalg.norm(points[0] - centre, axis=-1)[np.isfinite(ball.distance)]
    assert on_ball == pytest.approx(0.7)
    on_box = (np.abs((points[1] - centre) @ turn.T) / half).max(-1)[np.isfinite(box.distance)]
    assert on_box == pytest.approx(1)
    assert np.abs(points[2] - size / 2).max(-1).min() > 0
    assert (np.abs(points[2] - size / 2) / (size / 2)).max(-1) == pytest.approx(1)
    missed = ~np.isfinite(ball.distance)
    along = np.maximum(((centre - camera) * rays).sum(-1), 0)
    assert (np.linalg.norm(camera + along[..., None] * rays - centre, axis=-1)[missed] >= 0.7 - 1e-9).all()


def test_a_folder_in_millimetres(tmp_path):
    random = np.random.default_rng(0)
    metres = {}
    for part in ("train", "val", "test"):
        for i in range(2):
            write(tmp_path / "nyu" / part / "images" / f"{i}.png", random.integers(0, 255, (4, 6, 3)).astype(np.uint8))
            values = random.integers(500, 9000, (4, 6)).astype(np.uint16)
            values[:2, :2], values[0, 2] = 0, 0
            write(tmp_path / "nyu" / part / "depths" / f"{i}.png", values)
            metres[part, i] = torch.from_numpy(values / 1000).float()
    whole = nyu(tmp_path)
    assert torch.equal(whole.val.depths[1], metres["val", 1]) and whole.train.images.shape == (2, 3, 4, 6)
    halves = nyu(tmp_path, limit=1, shrink=2)
    assert halves.test.depths.shape == (1, 2, 3) and halves.test.depths[0, 0, 0] == 0
    block = metres["test", 0][:2, 2:4].flatten()
    assert float(halves.test.depths[0, 0, 1]) == pytest.approx(float(block[1:].mean()), rel=1e-6)
    assert torch.allclose(halves.test.images[0, :, 1, 1], whole.test.images[0, :, 2:4, 2:4].mean((1, 2)))
    with pytest.raises(ValueError, match="shrink: expected at most"):
        nyu(tmp_path, shrink=5)
    write(tmp_path / "nyu" / "val" / "depths" / "1.png", np.ones((3, 6), np.uint16))
    with pytest.raises(ValueError, match=r"1\.png: expected \(4, 6\) pixels"):
        nyu(tmp_path)
    (tmp_path / "nyu" / "val" / "depths" / "1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected .*1\.png beside"):
        nyu(tmp_path)
    with pytest.raises(FileNotFoundError, match="has no train"):
        nyu(tmp_path / "nyu" / "val")


def test_the_photograph_of_a_package(tmp_path, monkeypatch):
    """Depth times (disparity + offset of the principal points) is base line times focal length."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match="pip install scikit-image"):
        motorcycle()
    package = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: package)
    with pytest.raises(FileNotFoundError, match=r"motorcycle_left\.png"):
        motorcycle()
    disparity = np.array([[10.0, 20.0, np.nan], [40.0, 50.0, np.inf]])
    write(tmp_path / "data" / "motorcycle_left.png", np.full((2, 3, 3), 255, np.uint8))
    np.savez(tmp_path / "data" / "motorcycle_disp.npz", disparity)
    scene = motorcycle()
    assert scene.images.shape == (1, 3, 2, 3) and float(scene.images.min()) == 1
    assert (scene.depths[0, :, 2] == 0).all()
    product = scene.depths[0, :, :2].double() * (torch.from_numpy(disparity[:, :2]) + 31.086)
    assert torch.allclose(product, torch.full((2, 2), 0.193001 * 994.978, dtype=torch.float64), rtol=1e-6)
