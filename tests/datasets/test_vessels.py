"""DRIVE: what it gives for data as promised, and what it says about other data."""

import numpy as np
import pytest
import torch
from PIL import Image

from pdegcnn_examples.datasets import drawn_vessels, drive, read_picture

HEIGHT, WIDTH = 40, 36


def disc(height, width, centre, diameter):
    rows, columns = np.mgrid[:height, :width]
    return np.hypot(rows - centre[0], columns - centre[1]) < diameter / 2


@pytest.fixture
def folder(tmp_path):
    """Forty photographs with one vessel each: as many pixels wide as the number says, modulo 3, plus one."""
    field = disc(HEIGHT, WIDTH, (20, 18), 34)
    for part, first in (("test", 1), ("training", 21)):
        for kind in ("images", "manual1", "fov"):
            (tmp_path / "drive" / part / kind).mkdir(parents=True)
        for number in range(first, first + 20):
            vessel = np.zeros((HEIGHT, WIDTH), bool)
            vessel[15:25, 10 : 11 + number % 3] = True
            image = np.where(field, 200 - number, 0)[..., None] * np.array([1, 0.5, 0.25])
            for kind, pixels in (("images", image.astype(np.uint8)), ("manual1", vessel), ("fov", field)):
                Image.fromarray(pixels).save(tmp_path / "drive" / part / kind / f"{number:02d}.png")
    return tmp_path


def test_drive(folder, monkeypatch):
    found = drive(folder)
    for part, first in ((found.train, 21), (found.test, 1)):
        assert part.images.shape == (20, 3, HEIGHT, WIDTH) and part.images.dtype == torch.float32
        assert part.vessels.dtype == part.fields.dtype == torch.bool and part.fields.shape == (20, HEIGHT, WIDTH)
        assert part.vessels.sum((1, 2)).tolist() == [10 * (1 + n % 3) for n in range(first, first + 20)]
        assert part.images[:, 0, 20, 18].mul(255).round().int().tolist() == [200 - n for n in range(first, first + 20)]
    monkeypatch.setenv("PDEGCNN_DATA", str(folder / "drive"))
    assert torch.equal(drive().test.images, found.test.images)


@pytest.mark.parametrize(
    ("name", "pixels", "message"),
    [
        ("images/23.png", None, "23.png is missing"),
        ("fov/23.png", b"\x89PNG, or so", r"fov/23.png: expected a readable image, got a damaged one"),
        ("images/24.png", np.zeros((40, 35, 3), np.uint8), r"images/24.png: expected 40 x 36 pixels"),
        ("manual1/25.png", np.arange(1440, dtype=np.uint8).reshape(40, 36), "manual1/25.png: expected a black and"),
        ("manual1/25.png", np.zeros((40, 36), bool), "manual1/25.png: expected a black and white"),
        ("manual1/26.png", disc(40, 36, (20, 18), 30), "manual1/26.png: expected vessels in at most 40%"),
        ("manual1/26.png", ~disc(40, 36, (20, 18), 34), "manual1/26.png: expected vessels in at most"),
        ("fov/27.png", disc(40, 36, (20, 18), 8), "fov/27.png: expected a field of view of at least 30%"),
    ],
)
def test_wrong_files_are_named(folder, name, pixels, message):
    path = folder / "drive" / "training" / name
    path.unlink()
    if isinstance(pixels, bytes):
        path.write_bytes(pixels)
    elif pixels is not None:
        Image.fromarray(pixels).save(path)
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        drive(folder)


def test_no_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("PDEGCNN_DATA", raising=False)
    for wrong in (None, tmp_path):
        with pytest.raises(FileNotFoundError, match="drive.grand-challenge.org"):
            drive(wrong)


def test_drawn_vessels():
    a, b = drawn_vessels(2, 96, seed=3), drawn_vessels(2, 96, seed=3)
    assert all(torch.equal(x, y) for x, y in zip(a, b))
    assert a.images.shape == (2, 3, 96, 96) and float(a.images.min()) >= 0 and float(a.images.max()) <= 1
    assert not (a.vessels & ~a.fields).any()
    share = a.vessels.float().mean((1, 2)) / a.fields.float().mean((1, 2))
    assert ((share > 0.03) & (share < 0.4)).all()
    darker = [image[1][v].mean() < image[1][f & ~v].mean() for image, v, f in zip(*a)]
    assert all(darker)
    for bad in ({"count": 0}, {"size": 32}):
        with pytest.raises(ValueError, match="expected"):
            drawn_vessels(**bad)


@pytest.mark.parametrize("kind", ["I;16", "F"])
def test_deep_pixels_are_scaled_not_cut(tmp_path, kind):
    values = np.linspace(0, 1, 256).reshape(16, 16)
    deep = (values * 65535).round().astype(np.uint16) if kind == "I;16" else values.astype(np.float32)
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    assert Image.open(tmp_path / "deep.tif").mode == kind
    read = read_picture(tmp_path / "deep.tif")
    assert read.shape == (16, 16, 3) and np.array_equal(read[..., 1].ravel(), np.arange(256))
