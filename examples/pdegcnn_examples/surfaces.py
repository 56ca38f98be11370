"""Surfaces of the examples on meshes, and gradients on them."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import pdegcnn as pg

DATA = "folder with fsaverage5 (white_left.gii.gz, ...), or the word nilearn for the one in its wheel"


def waves(subdivisions: int, seed: int, amplitude: float = 0.05) -> tuple[pg.Mesh, Tensor]:
    """A sphere with random waves, and their height."""
    vertices, faces = pg.surface.icosphere(subdivisions)
    draw = np.random.default_rng(seed)
    wave = (draw.normal() * np.sin(vertices @ draw.normal(size=3) * 4 + draw.uniform(0, 6)) for _ in range(12))
    height = np.sum(list(wave), axis=0)
    height = amplitude * (height - height.mean()) / height.std()
    return pg.Mesh.from_arrays(vertices * (1 + height)[:, None], faces), torch.from_numpy(height)


def cortex_folder(data: Path) -> Path:
    """Where fsaverage5 lies; raises ``FileNotFoundError`` or ``ValueError`` with advice."""
    if str(data) == "nilearn":
        try:
            datasets = importlib.import_module("nilearn.datasets")
        except ImportError as error:
            raise ValueError("expected nilearn to be installed (pip install nilearn), it is not") from error
        return Path(str(datasets.__file__)).parent / "data" / "fsaverage5"
    if not (data / "white_left.gii.gz").exists():
        raise FileNotFoundError(f"expected white_left.gii.gz of fsaverage5 in {data}, found none")
    return data


def cortex(folder: Path, side: str) -> tuple[pg.Mesh, Tensor]:
    """The white-matter surface of a hemisphere and its sulcal depth; the right one mirrored, to be oriented alike."""
    nibabel = importlib.import_module("nibabel")
    vertices, faces = (a.data for a in nibabel.load(folder / f"white_{side}.gii.gz").darrays[:2])
    depth = nibabel.load(folder / f"sulc_{side}.gii.gz").darrays[0].data
    vertices, faces = vertices.astype(np.float64), faces.astype(np.int64)
    if side == "right":
        vertices, faces = vertices * [-1, 1, 1], faces[:, ::-1].copy()
    return pg.Mesh.from_arrays(vertices, faces), torch.tensor(depth, dtype=torch.float64)


def gradient(f: Tensor, mesh: pg.Mesh) -> Tensor:
    """Gradient of functions ``[...,V]`` as spin-1 fields: least squares over the edges at each vertex."""
    near = mesh.neighbours(None, f)
    z = near.offset
    size = mesh.vertex_count
    zero = torch.zeros(size, dtype=f.dtype)
    xx, xy, yy = (zero.index_add(0, near.centre, p) for p in (z.real * z.real, z.real * z.imag, z.imag * z.imag))
    det = (xx * yy - xy * xy)[near.centre]
    right = (f[..., near.source] - f[..., near.centre]).to(z.dtype)
    factor = torch.complex(
        yy[near.centre] * z.real - xy[near.centre] * z.imag, xx[near.centre] * z.imag - xy[near.centre] * z.real
    )
    out = torch.zeros(*f.shape, dtype=z.dtype)
    return out.index_add(f.ndim - 1, near.centre, right * (factor / det))
