"""Volumes in NIfTI files: numbers, voxels and places survive, and are what nibabel reads; wrong files are named."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

import pdegcnn as pg
from pdegcnn.io import read_volume, write_volume

AFFINE = torch.tensor([[0.0, -2.0, 0.0, 5.5], [1.5, 0.0, 0.0, -3.0], [0.0, 0.0, 3.0, 7.25], [0.0, 0.0, 0.0, 1.0]])
AFFINE = AFFINE.double()
"""Columns go along y in steps of 1.5, rows along -x in steps of 2, slices along z in steps of 3."""
KINDS = (torch.float32, torch.float64, torch.uint8, torch.int16, torch.int32, torch.int64)


@given(
    shape=st.lists(st.integers(1, 4), min_size=3, max_size=4),
    kind=st.sampled_from(KINDS),
    suffix=st.sampled_from([".nii", ".nii.gz"]),
    entries=st.lists(st.floats(-100, 100, width=32), min_size=12, max_size=12),
)
def test_numbers_affine_and_spacing_survive(
    shape: list[int], kind: torch.dtype, suffix: str, entries: list[float]
) -> None:
    values = (100 * torch.rand(shape)).to(kind)
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3] = torch.tensor(entries, dtype=torch.float64).view(3, 4)
    sizes = affine[:3, :3].norm(dim=0)
    if not affine[:3, :3].det().abs() > 1e-3 * sizes.prod() or not sizes.min() > 1e-3:
        affine[:3, :3] = AFFINE[:3, :3]
    with tempfile.TemporaryDirectory() as folder:
        path = write_volume(Path(folder) / f"volume{suffix}", values, affine=affine)
        found, again = read_volume(path), nibabel.load(path)
        assert found.values.dtype == kind
        assert torch.equal(found.values, values if values.ndim == 4 else values[None])
        assert torch.equal(found.affine, affine)
        column, row, depth = (float(x) for x in affine[:3, :3].norm(dim=0))
        assert found.spacing == pytest.approx((depth, row, column)) and found.space == pg.R3(found.spacing)
        np.testing.assert_array_equal(np.asarray(again.dataobj), values.numpy().T)
        np.testing.assert_allclose(again.header.get_zooms()[:3], (column, row, depth), rtol=1e-6)


def test_a_voxel_lies_where_the_affine_says(tmp_path: Path) -> None:
    """Of a file that nibabel wrote: its first axis is the last one here."""
    numbers = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    nibabel.save(nibabel.Nifti1Image(numbers, AFFINE.numpy()), tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    assert volume.values.shape == (1, 4, 3, 2) and volume.spacing == (3.0, 2.0, 1.5)
    column, row, depth = 1, 2, 3
    assert volume.values[0, depth, row, column] == numbers[column, row, depth]
    place = volume.affine @ torch.tensor([column, row, depth, 1.0], dtype=torch.float64)
    assert place.tolist() == [1.5, -1.5, 16.25, 1.0]


def test_spacing_alone_and_numbers_that_nifti_lacks(tmp_path: Path) -> None:
    mask = torch.rand(3, 4, 5) > 0.5
    found = read_volume(write_volume(tmp_path / "mask.nii", mask, spacing=(2.0, 1.0, 0.5)))
    assert found.values.dtype == torch.uint8 and torch.equal(found.values[0].bool(), mask)
    assert found.spacing == (2.0, 1.0, 0.5)
    half = torch.rand(2, 3, 4, 5).bfloat16()
    assert torch.equal(read_volume(write_volume(tmp_path / "half.nii", half)).values, half.float())
    image = nibabel.Nifti1Image(np.ones((2, 2, 2), np.uint16), np.eye(4))
    nibabel.save(image, tmp_path / "wide.nii")
    assert read_volume(tmp_path / "wide.nii").values.dtype == torch.int32
    image = nibabel.Nifti1Image(np.full((2, 2, 2), 1000, np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, 1.0)
    nibabel.save(image, tmp_path / "scaled.nii")
    scaled = read_volume(tmp_path / "scaled.nii").values
    assert scaled.is_floating_point() and (scaled == 501).all()


@given(bit=st.integers(80, 4000))
def test_a_changed_bit_is_seen_in_a_compressed_file(bit: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Wherever it lies after the ten bytes of the header of gzip, of which most say nothing about the content."""
    path = write_volume(tmp_path_factory.mktemp("bit") / "x.nii.gz", torch.arange(1000.0).view(10, 10, 10))
    content = bytearray(path.read_bytes())
    bit = 80 + bit % (8 * len(content) - 80)
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"path: expected a NIfTI file, got '.*x.nii.gz', which is damaged"):
        read_volume(path)


@given(bit=st.integers(0, 8 * 348 - 1))
@example(bit=8 * 283 + 6)  # makes an entry of the affine infinite
def test_errors_of_damaged_headers_name_the_file(bit: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write_volume(tmp_path_factory.mktemp("bit") / "x.nii", torch.rand(2, 3, 4))
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    try:
        read_volume(path)  # of another scale or place, perhaps
    except ValueError as error:
        assert str(error).startswith("path: ") and str(path) in str(error)


@pytest.mark.parametrize("part", [lambda z: z.conj().imag, lambda z: z.real.to(torch.float8_e5m2)])
def test_signs_that_torch_has_not_written_yet_and_the_smallest_floats(
    part: Callable[[torch.Tensor], torch.Tensor], tmp_path: Path
) -> None:
    values = part(torch.randn(2, 3, 4, dtype=torch.complex64))
    assert torch.equal(read_volume(write_volume(tmp_path / "x.nii", values)).values[0], values.float())


def test_wrong_files_and_arguments_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, path = torch.zeros(2, 2, 2), tmp_path / "x.nii"
    flat = torch.diag(torch.tensor([1.0, 1.0, 0.0, 1.0]))
    for call, kind, text in (
        (lambda: read_volume(tmp_path / "none.nii"), FileNotFoundError, "path: expected a NIfTI file"),
        (lambda: write_volume(tmp_path / "x.mha", good), ValueError, "path: expected a name that ends with .nii"),
        (lambda: write_volume(tmp_path / "no" / "x.nii", good), FileNotFoundError, "path: expected a file in a folder"),
        (lambda: write_volume(path, torch.zeros(2, 2)), ValueError, "values: expected real"),
        (lambda: write_volume(path, torch.zeros(2, 0, 2)), ValueError, "values: expected real"),
        (lambda: write_volume(path, torch.zeros(1, 40000, 1)), ValueError, "values: expected axes of at most 32767"),
        (lambda: write_volume(path, good.cfloat()), ValueError, "values: expected real"),
        (lambda: write_volume(path, good.numpy()), TypeError, "values: expected a tensor"),  # type: ignore[arg-type]
        (lambda: write_volume(path, good, affine=torch.eye(3)), ValueError, "affine: expected an affine"),
        (lambda: write_volume(path, good, affine=torch.nan * torch.eye(4)), ValueError, "affine: expected an affine"),
        (lambda: write_volume(path, good, affine=flat), ValueError, "affine: expected an affine with an inverse"),
        (lambda: write_volume(path, good, spacing=-1.0), ValueError, "spacing: expected"),
        (lambda: write_volume(path, good, affine=AFFINE, spacing=1.0), ValueError, "spacing: expected None"),
    ):
        with pytest.raises(kind, match=text):
            call()
        assert not path.exists()
    write_volume(tmp_path / "cut.nii.gz", torch.rand(8, 8, 8))
    data = (tmp_path / "cut.nii.gz").read_bytes()
    for name, content in (("cut.nii.gz", data[: len(data) // 2]), ("words.nii", b"words"), ("empty.nii", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="path: expected a NIfTI file"):
            read_volume(tmp_path / name)
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2), np.float32), np.eye(4)), tmp_path / "flat.nii")
    with pytest.raises(ValueError, match="three or four axes"):
        read_volume(tmp_path / "flat.nii")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(ImportError, match=r"pdegcnn\[volumes\]"):
        write_volume(path, good)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("units", ["micron", "mm", "meter", "unknown"])
def test_units_of_lengths_survive(units: str, suffix: str, tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.diag([50.0, 50, 60, 1]))
    image.header.set_xyzt_units(units)
    nibabel.save(image, tmp_path / f"a{suffix}")
    volume = read_volume(tmp_path / f"a{suffix}")
    assert volume.units == units and volume.spacing == (60.0, 50.0, 50.0)
    path = write_volume(tmp_path / f"b{suffix}", volume.values, affine=volume.affine, units=volume.units)
    assert nibabel.load(path).header.get_xyzt_units()[0] == units and read_volume(path).units == units


def test_units_are_millimetres_unless_said_and_others_are_named(tmp_path: Path) -> None:
    assert read_volume(write_volume(tmp_path / "a.nii", torch.zeros(2, 2, 2))).units == "mm"
    for wrong in ("inch", 3, None):
        with pytest.raises((ValueError, TypeError), match="units: expected one of"):
            write_volume(tmp_path / "a.nii", torch.zeros(2, 2, 2), units=wrong)  # pyright: ignore[reportArgumentType]
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4))
    image.header["xyzt_units"] = 7  # no unit of lengths
    nibabel.save(image, tmp_path / "b.nii")
    assert read_volume(tmp_path / "b.nii").units == "unknown"
