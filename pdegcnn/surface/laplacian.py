"""Cotangent Laplacians of functions and of spin fields, and their lowest eigenfunctions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from pdegcnn._typing import Floats, Ints
from pdegcnn.surface.frames import Frames
from pdegcnn.surface.triangulation import Triangulation

GAP = 1e-5
"""Neighbouring eigenvalues that differ by less than this share of the greater one count as one multiple eigenvalue."""
SMALL = 512
"""Pieces of up to this many vertices are solved as dense matrices."""
BLOCK = 12
"""Vectors that the Lanczos method starts from, so that it finds all eigenfunctions of an eigenvalue: the lattices and
the symmetric bodies have no more of one.
"""
CONVERGED = 1e-12
"""Residual of an eigenfunction, relative to its eigenvalue, at which the Lanczos method stops."""


class Modes(NamedTuple):
    """Eigenvalues and eigenfunctions on one connected component.

    Attributes:
        vertices: the vertices of the component, ``[n]``.
        values: eigenvalues, ascending, ``[K]``.
        functions: eigenfunctions, ``[n,K]``.
    """

    vertices: Ints
    values: Floats
    functions: np.ndarray


def vertex_areas(triangulation: Triangulation) -> Floats:
    """Return a third of the area of the faces around each vertex, ``[V]``: the lumped mass matrix.

    Args:
        triangulation: the triangulation.
    """
    third = np.repeat(triangulation.areas / 3, 3)
    return np.bincount(triangulation.tail, third, triangulation.vertex_count).astype(np.float64)


def connection_laplacian(triangulation: Triangulation, frames: Frames, spin: int) -> sparse.csr_matrix:
    r"""Return the weak Laplacian of spin-k fields, ``[V,V]``, which is Hermitian.

    .. math:: (L f)_v = \sum_w \tfrac12 (\cot a_{vw} + \cot b_{vw}) (f_v - r_{vw}^k f_w)

    Here :math:`r_{vw}` is the transport from w to v; a and b are the angles opposite to the edge. L is real for spin 0
    and positive semidefinite on Delaunay triangulations. Source: vector heat method (Sharp, Soliman & Crane 2019),
    section 5.3.

    Args:
        triangulation: the triangulation.
        frames: its frames.
        spin: the spin k.
    """
    t = triangulation
    weight = t.cotangents / 2
    phase = np.exp(1j * spin * frames.transport) if spin else np.ones(weight.size)
    rows = np.concatenate((t.tail, t.head, t.tail, t.head))
    columns = np.concatenate((t.head, t.tail, t.tail, t.head))
    values = np.concatenate((-weight * phase, -weight * phase.conj(), weight, weight))
    return sparse.csr_matrix((values, (rows, columns)), shape=(t.vertex_count,) * 2)


def eigenmodes(laplacian: sparse.csr_matrix, areas: Floats, count: int) -> tuple[Modes, ...]:
    """Return the ``count`` lowest eigenvalues and their eigenfunctions, orthonormal for ``areas``, of each component.

    Multiple eigenvalues are never split: those within a relative distance of ``GAP`` of the last one are added. The
    span of the eigenfunctions therefore depends neither on the numbering of vertices nor on rounding. A component has
    at most as many eigenfunctions as vertices.

    Args:
        laplacian: weak Laplacian ``[V,V]``, Hermitian.
        areas: vertex areas ``[V]``.
        count: number of eigenvalues.
    """
    pattern = sparse.csr_matrix((np.ones(laplacian.nnz), laplacian.indices, laplacian.indptr), laplacian.shape)
    pieces, piece = connected_components(pattern, directed=False)
    members = np.split(np.argsort(piece, kind="stable"), np.cumsum(np.bincount(piece, minlength=pieces))[:-1])
    if pieces == 1:
        return (Modes(members[0], *_piece_modes(laplacian, areas, count)),)
    return tuple(Modes(v, *_piece_modes(laplacian[v][:, v], areas[v], count)) for v in members)


def eigenbasis(laplacian: sparse.csr_matrix, areas: Floats, count: int) -> tuple[Floats, np.ndarray]:
    """Return the modes of :func:`eigenmodes` in one matrix: ascending eigenvalues ``[K]``, eigenfunctions ``[V,K]``.

    Args:
        laplacian: weak Laplacian ``[V,V]``, Hermitian.
        areas: vertex areas ``[V]``.
        count: number of eigenvalues of each connected component, positive.
    """
    return side_by_side(eigenmodes(laplacian, areas, count), areas.size)


def side_by_side(modes: tuple[Modes, ...], vertices: int) -> tuple[Floats, np.ndarray]:
    """Return all eigenvalues ``[K]``, ascending, and eigenfunctions ``[V,K]``, zero outside their component."""
    if len(modes) == 1:
        return modes[0].values, modes[0].functions
    values = np.concatenate([m.values for m in modes])
    functions, first = np.zeros((vertices, values.size), modes[0].functions.dtype), 0
    for m in modes:
        functions[m.vertices, first : first + m.values.size] = m.functions
        first += m.values.size
    order = np.argsort(values, kind="stable")
    return values[order], functions[:, order]


def _piece_modes(laplacian: sparse.csr_matrix, areas: Floats, count: int) -> tuple[Floats, np.ndarray]:
    """Return the lowest eigenvalues and eigenfunctions of one component.

    Eigenvalues that are rounding are set to zero: a small power of them would not be small.
    """
    root = 1 / np.sqrt(areas)
    scaled: sparse.csr_matrix = sparse.diags(root) @ laplacian @ sparse.diags(root)  # pyright: ignore
    vectors = _lanczos(scaled, count) if areas.size > max(SMALL, 4 * count) else None
    if vectors is None:
        vectors = np.linalg.eigh(scaled.toarray())[1]
    values, within = np.linalg.eigh(vectors.conj().T @ (scaled @ vectors))  # the rounding of small ones is small
    values = np.where(values < 1e-12 * laplacian.diagonal().real.sum() / areas.sum(), 0, values)
    count = whole(values, count)
    return values[:count], root[:, None] * (vectors @ within[:, :count])


def whole(values: Floats, count: int) -> int:
    """Return the least number from ``count`` on of ascending eigenvalues that cuts between two different ones."""
    while 0 < count < values.size and values[count] - values[count - 1] <= GAP * values[count]:
        count += 1
    return min(count, values.size)


def _lanczos(matrix: sparse.csr_matrix, count: int) -> np.ndarray | None:
    """Return a basis of the eigenvectors of the lowest eigenvalues, or None if half the space does not hold them.

    Block Lanczos method for the inverse, shifted below zero, with full orthogonalisation. A block finds eigenvectors of
    a multiple eigenvalue that a single vector misses. Source: Golub & Van Loan, *Matrix Computations*, section 10.3.
    """
    size = matrix.diagonal().size
    shift = 1e-4 * matrix.diagonal().real.mean()
    inverse = splu((matrix + shift * sparse.identity(size)).tocsc())
    block = np.random.default_rng(0).standard_normal((size, BLOCK)).astype(matrix.dtype)
    block = np.linalg.qr(block)[0]
    most, due = BLOCK * (size // (2 * BLOCK)), 2 * count + 2 * BLOCK
    basis, projected = np.empty((size, most), matrix.dtype, order="F"), np.zeros((most, most), matrix.dtype)
    for used in range(BLOCK, most + 1, BLOCK):
        basis[:, used - BLOCK : used] = block
        span, image = basis[:, :used], inverse.solve(block)
        projected[:used, used - BLOCK : used] = along = span.conj().T @ image
        image -= span @ along
        image -= span @ (span.conj().T @ image)  # once more: rounding
        block, over = np.linalg.qr(image)
        if used >= due:
            due = 1.15 * used  # a check costs as much as several blocks
            values, vectors = np.linalg.eigh(projected[:used, :used], UPLO="U")
            values, vectors = values[::-1], vectors[:, ::-1]
            wanted = whole(1 / values - shift, count) + 1  # and the next, so that it is known to differ
            residual = np.linalg.norm(over @ vectors[-BLOCK:, :wanted], axis=0)
            if wanted <= used and (residual <= CONVERGED * values[:wanted]).all():
                return span @ vectors[:, :wanted]
    return None
