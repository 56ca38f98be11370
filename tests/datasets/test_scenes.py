"""CamVid and DAVIS readers: what they give for folders laid out as promised, and what they say about other ones."""

import numpy as np
import pytest
import torch
from PIL import Image

from pdegcnn_examples.datasets import CAMVID_CLASSES, CAMVID_VOID, camvid, davis


@pytest.fixture
def street(tmp_path):
    """Five small scenes to train on, two to validate with."""
    random = np.random.default_rng(0)
    for part, count in (("train", 5), ("val", 2)):
        for kind in ("images", "labels"):
            (tmp_path / "camvid" / part / kind).mkdir(parents=True)
        for i in range(count):
            picture = np.full((6, 8, 3), 40 * i, np.uint8)
            Image.fromarray(picture).save(tmp_path / "camvid" / part / "images" / f"s{i}.jpg")
            label = random.integers(0, 12, (6, 8)).astype(np.uint8)
            label[0, 0] = i
            Image.fromarray(label).save(tmp_path / "camvid" / part / "labels" / f"s{i}.png")
    return tmp_path


@pytest.fixture
def clips(tmp_path):
    """Two clips of three frames; the object is a square of 4x4 pixels that moves by two."""
    for name in ("cow", "camel"):
        for kind in ("frames", "masks"):
            (tmp_path / "davis" / kind / name).mkdir(parents=True)
        for t in range(3):
            mask = np.zeros((8, 12), np.uint8)
            mask[2:6, 2 * t : 2 * t + 4] = 1
            Image.fromarray(np.stack([mask * 255] * 3, -1)).save(tmp_path / "davis/frames" / name / f"{t:05}.jpg")
            Image.fromarray(mask * 255).convert("1").save(tmp_path / "davis/masks" / name / f"{t:05}.png")
    return tmp_path


def test_camvid(street, monkeypatch):
    found = camvid(street)
    assert len(CAMVID_CLASSES) == CAMVID_VOID
    assert found.train.images.shape == (5, 3, 6, 8) and found.train.images.dtype == torch.float32
    assert found.val.labels.shape == (2, 6, 8) and found.val.labels.dtype == torch.int64
    assert found.train.labels[:, 0, 0].tolist() == [0, 1, 2, 3, 4]  # in the order of names, beside their images
    torch.testing.assert_close(found.train.images[:, 0, 3, 3], torch.arange(5) * 40 / 255, atol=0.02, rtol=0)
    monkeypatch.setenv("PDEGCNN_DATA", str(street / "camvid"))
    few = camvid(limit=2)
    assert few.train.labels[:, 0, 0].tolist() == [0, 4] and len(few.val.images) == 2


def test_davis(clips, monkeypatch):
    found = davis(clips)
    assert list(found) == ["camel", "cow"]
    assert found["cow"].frames.shape == (3, 3, 8, 12) and found["cow"].masks.shape == (3, 8, 12)
    assert found["cow"].masks.sum((1, 2)).tolist() == [16, 16, 16]
    assert torch.equal(found["cow"].masks[1, 2:6, 2:6], torch.ones(4, 4, dtype=torch.long))
    inside = found["cow"].frames[0][found["cow"].masks == 1]
    assert inside.mean() > 0.9 and found["cow"].frames.max() <= 1
    monkeypatch.setenv("PDEGCNN_DATA", str(clips))
    small = davis(clips=["cow"], frames=2, shrink=2)["cow"]
    assert small.frames.shape == (3, 2, 4, 6)
    assert torch.equal(small.masks[1], torch.nn.functional.avg_pool2d(found["cow"].masks[1:2].float(), 2)[0].long())


def test_nothing_or_something_else_there(tmp_path, monkeypatch):
    monkeypatch.delenv("PDEGCNN_DATA", raising=False)
    for load, word in ((camvid, "train"), (davis, "frames")):
        with pytest.raises(FileNotFoundError, match=r"folder: expected a folder .* PDEGCNN_DATA; got none"):
            load()
        with pytest.raises(FileNotFoundError, match=f"has no {word}"):
            load(tmp_path)
    (tmp_path / "train" / "images").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"images has no \*.jpg"):
        camvid(tmp_path)
    (tmp_path / "frames").mkdir()
    with pytest.raises(FileNotFoundError, match="has no clips"):
        davis(tmp_path)


def test_frames_follow_their_numbers_and_hidden_files_are_left_out(clips, street):
    """Frame 10 comes after frame 2 also where numbers have no zeros in front; suffixes may be in upper case."""
    expected = davis(clips)
    for kind, suffix in (("frames", "jpg"), ("masks", "png")):
        for name in ("cow", "camel"):
            folder = clips / "davis" / kind / name
            for t, number in enumerate((2, 9, 10)):
                suffix_here = suffix.upper() if (kind, t) == ("frames", 1) else suffix
                (folder / f"{t:05}.{suffix}").rename(folder / f"f{number}.{suffix_here}")
            (folder / f"._f2.{suffix}").write_bytes(b"what macOS leaves beside a file")
        (clips / "davis" / kind / ".hidden").mkdir()
    found = davis(clips)
    assert found.keys() == expected.keys()
    assert all(torch.equal(a, b) for name in found for a, b in zip(found[name], expected[name]))
    count = len(camvid(street).train.images)
    (street / "camvid" / "train" / "images" / "._s1.jpg").write_bytes(b"")
    assert len(camvid(street).train.images) == count


@pytest.mark.parametrize("part", ["images/s1.jpg", "labels/s1.png"])
def test_damaged_scenes(street, part):
    path = street / "camvid" / "train" / part
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=rf"{path.name}: expected a readable image"):
        camvid(street)
    path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=rf"{path.name}: expected a readable image"):
        camvid(street)
    Image.fromarray(np.zeros((7, 8), np.uint8)).save(path)
    with pytest.raises(ValueError, match=rf"{path.name}: expected \(6, 8\) pixels"):
        camvid(street)


def test_other_labels_and_missing_ones(street, clips):
    path = street / "camvid" / "val" / "labels" / "s1.png"
    Image.fromarray(np.full((6, 8), 77, np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"s1.png: expected labels 0..11, got 77"):
        camvid(street)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="s1.png"):
        camvid(street)
    (clips / "davis/masks/cow/00001.png").unlink()
    with pytest.raises(FileNotFoundError, match="00001.png"):
        davis(clips)
    with pytest.raises(FileNotFoundError, match="camel, cow; got 'horse'"):
        davis(clips, clips=["horse"])


@pytest.mark.parametrize("arguments", [{"frames": 0}, {"shrink": 0}, {"shrink": 9}])
def test_bad_sizes(clips, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        davis(clips, **arguments)
