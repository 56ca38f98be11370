"""Pictures are read as viewers show them, label files as the numbers in them, whatever the file's kind."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from pdegcnn_examples.datasets import camvid, read_labels, read_picture

ORIENTATION = 0x0112
STORED = {  # what a file of each EXIF orientation holds of the picture that is shown
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}
KINDS = {  # greatest label and Pillow's image of an array of labels
    "1 bit": (1, lambda a: Image.fromarray(a > 0)),
    "8 bits": (255, lambda a: Image.fromarray(a.astype(np.uint8))),
    "16 bits": (65535, lambda a: Image.fromarray(a.astype(np.uint16))),
    "32 bits": (2**31 - 1, lambda a: Image.fromarray(a.astype(np.int32))),
    "palette": (255, lambda a: _palette(a)),
    "grey colours": (255, lambda a: Image.fromarray(np.stack([a.astype(np.uint8)] * 3, -1))),
}


def _palette(numbers: np.ndarray) -> Image.Image:
    image = Image.fromarray(numbers.astype(np.uint8)).convert("P")
    image.putpalette([255 - i // 3 for i in range(768)])  # other colours than the numbers
    return image


def _save(image: Image.Image, path, orientation: int, **options) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image.save(path, exif=exif, **options)


@given(orientation=st.integers(1, 8), format=st.sampled_from(["jpg", "png", "tif", "webp"]), seed=st.integers(0, 99))
@example(orientation=3, format="jpg", seed=0)
@example(orientation=6, format="tif", seed=0)
def test_pictures_are_upright(tmp_path_factory, orientation, format, seed) -> None:
    shown = np.random.default_rng(seed).integers(0, 256, (2, 3, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    path = tmp_path_factory.mktemp("pictures") / f"a.{format}"
    exact = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}
    _save(Image.fromarray(np.ascontiguousarray(STORED[orientation](shown))), path, orientation, **exact.get(format, {}))
    read = read_picture(path)
    assert read.shape == shown.shape and np.abs(read.astype(int) - shown).max() <= (4 if format == "jpg" else 0)


@given(
    kind=st.sampled_from(sorted(KINDS)),
    orientation=st.integers(1, 8),
    options=st.sampled_from([("tif", {}), ("tif", {"compression": "tiff_lzw"}), ("png", {})]),
    seed=st.integers(0, 99),
)
@example(kind="16 bits", orientation=1, options=("png", {}), seed=0)
@example(kind="8 bits", orientation=6, options=("tif", {}), seed=0)
def test_labels_are_the_numbers_in_the_file(tmp_path_factory, kind, orientation, options, seed) -> None:
    most, image = KINDS[kind]
    format, saving = options if kind != "32 bits" else ("tif", options[1])
    shown = np.random.default_rng(seed).integers(0, most + 1, (4, 7))
    path = tmp_path_factory.mktemp("labels") / f"a.{format}"
    _save(image(np.ascontiguousarray(STORED[orientation](shown))), path, orientation, **saving)
    read = read_labels(path)
    assert read.dtype == np.int64 and np.array_equal(read, shown)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_labels_of_few_bits(tmp_path, bits) -> None:
    """PNG keeps them packed; readers commonly stretch them to 0..255."""
    shown = np.random.default_rng(0).integers(0, 2**bits, (5, 8))
    packed = np.packbits((shown[..., None] >> np.arange(bits)[::-1] & 1).reshape(5, -1).astype(np.uint8), axis=1)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 5, bits, 0, 0, 0, 0))
    lines = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in packed)))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + lines + chunk(b"IEND", b""))
    assert np.array_equal(read_labels(tmp_path / "a.png"), shown)


def test_colours_of_every_mode(tmp_path) -> None:
    """A palette's colours; transparency on black; grey values of any depth in the same scale."""
    shade = np.array([[0, 51], [102, 255]])
    grey = {
        "L.png": shade.astype(np.uint8),
        "I16.png": (shade * 257).astype(np.uint16),
        "I32.tif": (shade * 257).astype(np.int32),
        "F.tif": (shade / 255).astype(np.float32),
        "RGB.png": np.stack([shade.astype(np.uint8)] * 3, -1),
    }
    for name, values in grey.items():
        Image.fromarray(values).save(tmp_path / name)
        assert np.array_equal(read_picture(tmp_path / name), np.stack([shade] * 3, -1)), name
    colours = _palette(shade)
    colours.save(tmp_path / "P.png")
    assert np.array_equal(read_picture(tmp_path / "P.png")[..., 0], 255 - shade)
    clear = np.stack([np.full((2, 2), 200), shade], -1).astype(np.uint8)
    Image.fromarray(clear).save(tmp_path / "LA.png")
    assert np.array_equal(read_picture(tmp_path / "LA.png")[..., 1], (200 * shade + 127) // 255)
    Image.fromarray(np.stack([255 - shade] * 3 + [0 * shade], -1).astype(np.uint8), "CMYK").save(tmp_path / "C.tif")
    assert np.array_equal(read_picture(tmp_path / "C.tif")[..., 2], shade)


def tiff(values: np.ndarray, photometric: int, order: str = "<", planes: bool = False) -> bytes:
    """A TIFF without compression, (H,W) or (H,W,C); as separate planes if asked."""
    height, width, *rest = values.shape
    samples = rest[0] if rest else 1
    data = np.moveaxis(values, -1, 0) if planes else values
    data = data.astype(values.dtype.newbyteorder(order)).tobytes()
    strips = samples if planes else 1
    kind = 3 if values.dtype.kind == "f" else 1
    tags = {256: [width], 257: [height], 258: [8 * values.itemsize] * samples, 259: [1], 262: [photometric]}
    tags |= {273: [8 + i * len(data) // strips for i in range(strips)], 277: [samples], 278: [height]}
    tags |= {279: [len(data) // strips] * strips, 284: [2 if planes else 1], 339: [kind] * samples}
    begin = 8 + len(data)
    entries, more, end = b"", b"", begin + 2 + 12 * len(tags) + 4
    for tag, numbers in tags.items():
        field = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            field, more = struct.pack(f"{order}I", end + len(more)), more + field
        entries += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + field
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", begin)
    return head + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + more


@pytest.mark.parametrize(("kind", "order"), [(np.uint8, "<"), (np.uint8, ">"), (np.uint16, "<"), (np.float32, "<")])
@pytest.mark.parametrize("zero", ["white", "black"])
def test_zero_is_white_where_the_file_says_so(tmp_path, zero, kind, order) -> None:
    """Grey values of all depths; a photograph is not read as its negative."""
    shade = np.array([[0, 51, 102], [153, 204, 255]])
    top = 1 if kind == np.float32 else np.iinfo(kind).max
    stored = (shade * (top / 255)).astype(kind)
    (tmp_path / "a.tif").write_bytes(tiff(stored, 0 if zero == "white" else 1, order))
    assert np.array_equal(read_picture(tmp_path / "a.tif")[..., 1], 255 - shade if zero == "white" else shade)


def test_a_negative_is_turned_as_its_orientation_says(tmp_path) -> None:
    Image.fromarray(np.array([[0, 65535, 65535]], np.uint16)).save(tmp_path / "a.tif", tiffinfo={262: 0, 274: 6})
    assert read_picture(tmp_path / "a.tif")[..., 0].tolist() == [[255], [0], [0]]


@pytest.mark.parametrize("order", ["<", ">"])
def test_planes_that_pillow_reads_wrongly_are_refused(tmp_path, order) -> None:
    colours = np.arange(60).reshape(4, 5, 3) * 4
    for depth, planes in ((np.uint8, False), (np.uint8, True), (np.uint16, False), (np.uint16, True)):
        factor = 257 if depth == np.uint16 else 1
        (tmp_path / "a.tif").write_bytes(tiff((colours * factor).astype(depth), 2, order, planes))
        if depth == np.uint16 and planes:
            with pytest.raises(
                ValueError, match=r"a.tif: expected the colours of each pixel together, .*8 bits without"
            ):
                read_picture(tmp_path / "a.tif")
        else:
            assert np.array_equal(read_picture(tmp_path / "a.tif"), colours)


def test_missing_files_folders_and_other_kinds_are_not_called_damaged(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none.png: expected an image, but the file does not exist"):
        read_picture(tmp_path / "none.png")
    with pytest.raises(ValueError, match="expected an image, got a folder"):
        read_picture(tmp_path)
    for content in (b"hello", b""):
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(ValueError, match=r"a.png: .*damaged one, or of a kind that Pillow does not know"):
            read_picture(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("values", "mode", "message"),
    [
        (np.zeros((2, 2), np.float32), "F", "whole numbers"),
        (np.stack([np.eye(2), 0 * np.eye(2), 0 * np.eye(2)], -1).astype(np.uint8), "RGB", "colours"),
        (np.stack([np.eye(2), np.eye(2)], -1).astype(np.uint8), "LA", "colours"),
        (np.zeros((2, 2, 4), np.uint8), "CMYK", "colours"),
    ],
)
def test_other_label_files_are_refused_by_name(tmp_path, values, mode, message) -> None:
    Image.fromarray(values, mode).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=rf"a.tif: expected labels as .*{message}"):
        read_labels(tmp_path / "a.tif")


@pytest.mark.parametrize("values", [np.full((2, 2), 70000, np.int32), np.full((2, 2), 255.0, np.float32)])
def test_grey_values_of_unknown_scale_are_refused_by_name(tmp_path, values) -> None:
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a.tif: expected grey values in \[0, "):
        read_picture(tmp_path / "a.tif")


def test_labels_lie_on_what_is_shown(tmp_path) -> None:
    """The photograph carries an orientation, its labels none, and have 16 bits."""
    shown = np.zeros((16, 24, 3), np.uint8)
    shown[:8] = 220
    for part in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / part / kind).mkdir(parents=True)
        stored = np.ascontiguousarray(STORED[6](shown))
        _save(Image.fromarray(stored), tmp_path / part / "images" / "a.jpg", 6, quality=95)
        Image.fromarray((shown[..., 0] > 0).astype(np.uint16) * 11).save(tmp_path / part / "labels" / "a.png")
    scenes = camvid(tmp_path).train
    assert scenes.images.shape == (1, 3, 16, 24) and scenes.labels.unique().tolist() == [0, 11]
    assert (
        scenes.images[0, 0][scenes.labels[0] == 11].mean()
        > 0.8
        > 0.1
        > scenes.images[0, 0][scenes.labels[0] == 0].mean()
    )
