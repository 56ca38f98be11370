"""Cotangent Laplacians of functions and of spin fields, and their lowest eigenfunctions."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import eigsh

from pdegcnn.surface.frames import Frames
from pdegcnn.surface.triangulation import Floats, Triangulation


def vertex_areas(triangulation: Triangulation) -> Floats:
    """A third of the area of the faces around each vertex, ``[V]``: the lumped mass matrix."""
    third = np.repeat(triangulation.areas / 3, 3)
    return np.bincount(triangulation.tail, third, triangulation.vertex_count).astype(np.float64)


def connection_laplacian(triangulation: Triangulation, frames: Frames, spin: int) -> sparse.csr_matrix:
    """Weak Laplacian of spin-k fields, ``[V,V]``, Hermitian; positive semi-definite on Delaunay triangulations.

    ``(L f)_v = sum_w (cot a + cot b)/2 (f_v - r_vw^k f_w)`` with the transport ``r_vw``. Real for spin 0. Source:
    vector heat method (Sharp, Soliman & Crane 2019), section 5.3.
    """
    t = triangulation
    weight = t.cotangents / 2
    phase = np.exp(1j * spin * frames.transport) if spin else np.ones(weight.size)
    rows = np.concatenate((t.tail, t.head, t.tail, t.head))
    columns = np.concatenate((t.head, t.tail, t.tail, t.head))
    values = np.concatenate((-weight * phase, -weight * phase.conj(), weight, weight))
    return sparse.csr_matrix((values, (rows, columns)), shape=(t.vertex_count,) * 2)


def eigenbasis(laplacian: sparse.csr_matrix, areas: Floats, count: int) -> tuple[Floats, np.ndarray]:
    """Lowest eigenvalues ``[K]`` and eigenfunctions ``[V,K]``, orthonormal for the vertex areas.

    Eigenvalues that are rounding are set to zero: a small power of them would not be small.
    """
    vertices = areas.size
    if count >= vertices - 1:  # Lanczos needs room
        root = 1 / np.sqrt(areas)
        values, functions = np.linalg.eigh(root[:, None] * laplacian.toarray() * root)
        return _without_rounding(values)[:count], root[:, None] * functions[:, :count]
    shift = -1e-4 * laplacian.diagonal().real.mean() / areas.mean()
    start = np.random.default_rng(0).standard_normal(vertices)
    functions = eigsh(laplacian.tocsc(), count, sparse.diags(areas).tocsc(), sigma=shift, v0=start)[1]
    # ARPACK does not orthogonalise complex eigenvectors of one eigenvalue: solve again in their span
    weight = np.sqrt(areas)[:, None]
    span = np.linalg.qr(weight * functions)[0] / weight
    values, within = np.linalg.eigh(span.conj().T @ (laplacian @ span))
    return _without_rounding(values), span @ within


def _without_rounding(values: Floats) -> Floats:
    return np.where(values < 1e-9 * values.max(), 0, values)
