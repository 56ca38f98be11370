"""Surfaces as triangle meshes, with signals on the bundle of unit tangent directions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate

import numpy as np
import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._files import write_file
from pdegcnn._typing import Numbers, from_numpy
from pdegcnn.spaces import mesh_arguments, mesh_building, mesh_isometry, mesh_sources
from pdegcnn.spaces.base import MotionOptions, Space
from pdegcnn.spaces.mesh_arguments import as_angles, as_count, as_radius, as_several, as_spin, check_features
from pdegcnn.spaces.mesh_operators import (
    Eigenmodes,
    Interpolation,
    Made,
    Neighbours,
    OperatorCache,
    Options,
    SparseRows,
    turn_fibre,
)
from pdegcnn.surface.archive import to_arrays
from pdegcnn.surface.files import pyvista_surface, read_surface, trimesh_surface
from pdegcnn.surface.surface import JoinedSurface, Surface

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Mesh(Space):
    """A triangulated surface; signals ``[B,C,Or,V]`` over Or directions in the tangent planes of V vertices.

    Each vertex has a reference direction. Direction ``i`` is turned from it by ``2 pi i / Or``, counter-clockwise seen
    from outside. The choice of reference directions is the **gauge**. The frame of vectors and metrics is
    (forward, sideways, turn) as on SE(2). The unit of length is the mean edge length unless ``unit`` says otherwise, so
    layers do not depend on the scale of the mesh. All geometry is computed from edge lengths, so rigid motions leave it
    unchanged.

    Build a mesh with :meth:`from_arrays`, :meth:`from_file`, :meth:`from_lengths`, :meth:`union` or :meth:`load`. It is
    immutable: positions, faces, areas and frames are returned as copies. Operators are computed when first
    needed, kept, and moved to the device of the signal.

    Sources: vector heat method (Sharp, Soliman & Crane 2019) for frames and transport; Smets et al. (arXiv 2001.09046)
    for the PDEs, here on the unit tangent bundle.

    Args:
        surface: the geometry, a :class:`pdegcnn.surface.Surface`.
        orientations: number Or of directions in each tangent plane.
        gauge: angle of each vertex's reference direction from that of ``surface``, ``[V]`` radians; None: zero.

    Example:
        >>> import pdegcnn as pg
        >>> mesh = pg.Mesh.from_arrays(*pg.surface.icosphere(2), orientations=8)
        >>> mesh.vertex_count, mesh.layout
        (162, '[B,C,Or,V]')
    """

    dim: ClassVar[int] = 3
    supported_terms: ClassVar[tuple[str, ...]] = (*Space.supported_terms, "diffusion_shock")
    has_orientations: ClassVar[bool] = True

    def __init__(self, surface: Surface, orientations: int = 8, gauge: Tensor | None = None) -> None:
        wanted = "a Surface (of vertices and faces: Mesh.from_arrays(vertices, faces); of a file: Mesh.from_file)"
        self.surface: Surface = _checks.kind("surface", surface, Surface, wanted)
        self.orientations = _checks.positive_int("orientations", orientations)
        self._gauge = mesh_arguments.as_gauge(gauge, self.vertex_count)
        self._device = torch.device("cpu")
        self._operators = OperatorCache()
        self._coarse: dict[float, Mesh] = {}

    @property
    def layout(self) -> str:
        """``[B,C,Or,V]``."""
        return "[B,C,Or,V]"

    @property
    def grid_spacing(self) -> Tensor:
        """The unit of length for the first two frame vectors, and the angle between directions in radians."""
        return torch.tensor([1.0, 1.0, 2 * math.pi / self.orientations], dtype=torch.float64, device="cpu")

    @classmethod
    def from_arrays(
        cls,
        vertices: Numbers,
        faces: Numbers,
        *,
        orientations: int = 8,
        unit: float | None = None,
        repair: bool = False,
    ) -> Mesh:
        """Make a mesh of ``vertices [V,3]`` (float) and ``faces [F,3]`` (long, counter-clockwise from outside).

        Args:
            vertices: positions, a tensor or array.
            faces: vertex indices.
            orientations: number of directions in each tangent plane; 1 for functions of position alone (whose metrics
                should then be isotropic, because the only direction is that of the gauge).
            unit: length in which vectors, metrics and radii are measured; None: the mean edge length.
            repair: merge vertices at the same position (nearer than 1e-6 of the surface's diameter and 0.01 of its
                shortest side), drop degenerate and repeated faces and isolated vertices, orient faces consistently.
                :attr:`vertex_map` says what became of each vertex.

        Raises:
            TypeError: for wrong dtypes.
            ValueError: for wrong shapes, or a surface that is not an oriented manifold (with or without boundary); the
                message names the defect and the vertices, edges or faces.

        Warns:
            UserWarning: if edges of the boundary coincide without sharing vertices, as in a list of separate triangles:
                the surface is cut there. ``repair=True`` joins them.
        """
        return cls(mesh_sources.from_positions(vertices, faces, None, repair, unit), orientations)

    @classmethod
    def from_lengths(
        cls, faces: Numbers, lengths: Numbers, *, orientations: int = 8, unit: float | None = None
    ) -> Mesh:
        """Make a surface without positions, from the lengths of its edges.

        Args:
            faces: vertex indices ``[F,3]`` (long, counter-clockwise from outside), without gaps in the numbers.
            lengths: positive lengths ``[F,3]`` of the sides 01, 12, 20 of each face.
            orientations: number of directions in each tangent plane.
            unit: length in which vectors, metrics and radii are measured; None: the mean edge length.

        Raises:
            TypeError: for wrong dtypes.
            ValueError: as in :meth:`from_arrays`, or if neighbouring faces disagree about their common side.
        """
        return cls(mesh_sources.from_lengths(faces, lengths, unit), orientations)

    @classmethod
    def from_trimesh(cls, mesh: Any, *, orientations: int = 8, unit: float | None = None, repair: bool = False) -> Mesh:
        """Convert a ``trimesh.Trimesh``, without isolated vertices. Warnings and other errors: see :meth:`from_arrays`.

        Args:
            mesh: the object of trimesh, with at least one face.
            orientations: number of directions in each tangent plane.
            unit: length in which vectors, metrics and radii are measured; None: the mean edge length.
            repair: whether to merge and drop vertices and faces as :meth:`from_arrays` does.

        Raises:
            TypeError: for another object.
        """
        return cls(mesh_sources.from_positions(*trimesh_surface(mesh), repair, unit), orientations)

    @classmethod
    def from_pyvista(cls, mesh: Any, *, orientations: int = 8, unit: float | None = None, repair: bool = False) -> Mesh:
        """Convert a ``pyvista.PolyData``, or the surface of another data set, with polygons cut into triangles.

        Isolated points and cells without area (lines, points) are left out. Warnings and other errors are as in
        :meth:`from_arrays`.

        Args:
            mesh: the object of pyvista, with at least one face.
            orientations: number of directions in each tangent plane.
            unit: length in which vectors, metrics and radii are measured; None: the mean edge length.
            repair: whether to merge and drop vertices and faces as :meth:`from_arrays` does.

        Raises:
            TypeError: for another object.
        """
        return cls(mesh_sources.from_positions(*pyvista_surface(mesh), repair, unit), orientations)

    @classmethod
    def from_file(
        cls, path: str | Path, *, orientations: int = 8, unit: float | None = None, repair: bool = False
    ) -> Mesh:
        """Read a mesh from a file.

        OBJ needs no other package; ``trimesh`` adds PLY, STL, OFF, GLB and others, ``pyvista`` VTK and VTP, ``nibabel``
        GIFTI (``.gii``, ``.gii.gz``). All objects, groups and materials form one surface, connected where they share
        positions; normals and texture coordinates do not cut it. Positions that a format repeats for each face (STL) or
        texture (glTF) are merged, up to a distance relative to the surface. Isolated positions are left out, polygons
        cut into triangles. :attr:`vertex_map` and :attr:`source_vertices` relate the vertices to those of the file.

        Args:
            path: the file; its ending names the format.
            orientations: number of directions in each tangent plane.
            unit: length in which vectors, metrics and radii are measured; None: the mean edge length.
            repair: whether to merge and drop vertices and faces as :meth:`from_arrays` does.

        Raises:
            ImportError: if the package that reads the format is not installed.
            FileNotFoundError: if the file does not exist.
            ValueError: as in :meth:`from_arrays`, or if the file has no faces.

        Warns:
            UserWarning: as in :meth:`from_arrays`.
        """
        return cls(mesh_sources.from_positions(*read_surface(path), repair, unit), orientations)

    @classmethod
    def union(cls, meshes: Sequence[Mesh]) -> Mesh:
        """Join meshes into one batch: vertices side by side, each mesh in its own unit, ``sizes`` vertices each.

        Signals are concatenated along the last axis, so a ``collate_fn`` for ``DataLoader`` takes a few lines: see
        ``docs/mesh.md``. Every layer gives each mesh the result that it gives the mesh alone, from geometry that was
        computed for the mesh. Global heads give one row for each mesh.

        Args:
            meshes: at least one mesh or union, all with the same number of directions; the first one sets the device.

        Raises:
            TypeError: if ``meshes`` is not a sequence of meshes, or is empty.
            ValueError: if the numbers of directions differ.
        """
        meshes = as_several(meshes, cls)
        if len({m.orientations for m in meshes}) > 1:
            raise ValueError(f"meshes: expected equal orientations, got {[m.orientations for m in meshes]}")
        surface = meshes[0].surface if len(meshes) == 1 else JoinedSurface([m.surface for m in meshes])
        return cls(surface, meshes[0].orientations, torch.cat([m.gauge for m in meshes])).to(meshes[0]._device)

    def save(self, path: str | Path) -> None:
        """Write the mesh and the operators it holds to a NumPy archive, completely or not at all.

        Args:
            path: name of the file; ``.npz`` is appended unless it ends so. A file of this name is replaced.

        Raises:
            FileNotFoundError: if the folder does not exist.
        """
        store = {"gauge": self.gauge.numpy(), "directions": self.orientations, "sizes": np.array(self.sizes)}
        write_file(mesh_sources.archive(path), lambda fresh: np.savez(fresh, **store, **to_arrays(self.surface)))

    @classmethod
    def load(cls, path: str | Path) -> Mesh:
        """Read a mesh from an archive of :meth:`save`.

        Args:
            path: the name that was given to :meth:`save`, with or without ``.npz``.

        Raises:
            FileNotFoundError: if the file does not exist.
            ValueError: if it was not written by :meth:`save`, or is damaged.
        """
        return cls(*mesh_sources.from_archive(path))

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of vertices of each mesh of a union; for a single mesh its own."""
        return tuple(part.areas.size for part in self.surface.parts)

    @property
    def vertex_count(self) -> int:
        """The number V of vertices."""
        return self.surface.triangulation.vertex_count

    @property
    def angles(self) -> Tensor:
        """The angle of each direction from the reference, ``[Or]`` radians, float64."""
        return torch.arange(self.orientations, dtype=torch.float64, device="cpu") * (2 * math.pi / self.orientations)

    @property
    def unit(self) -> float:
        """The unit of length, measured in the units of the vertices."""
        return self.surface.unit

    @property
    def vertices(self) -> Tensor:
        """The positions ``[V,3]``, float64; raises ``ValueError`` for a surface given by lengths."""
        if self.surface.vertices is None:
            raise ValueError("vertices: expected a mesh with positions, got one given by its edge lengths")
        return from_numpy(np.array(self.surface.vertices)).to(self._device)

    @property
    def faces(self) -> Tensor:
        """The vertices of each face, ``[F,3]``, long."""
        return from_numpy(np.array(self.surface.triangulation.faces)).to(self._device)

    @property
    def vertex_map(self) -> Tensor:
        """The vertex that each vertex of the file or arrays became, ``[n]`` long; -1 for those left out."""
        known = self.surface.vertex_map
        return from_numpy(np.arange(self.vertex_count) if known is None else np.array(known)).to(self._device)

    @property
    def source_vertices(self) -> Tensor:
        """For each vertex, the first vertex of the file or arrays from which it was made, ``[V]`` long.

        ``values[mesh.source_vertices]`` turns values at vertices of the file into values at vertices of the mesh.
        """
        known = self.vertex_map
        first = torch.full((self.vertex_count,), known.numel(), device=known.device)
        used = known >= 0
        numbers = torch.arange(known.numel(), device=known.device)
        return first.scatter_reduce(0, known[used], numbers[used], "amin")

    @property
    def gauge(self) -> Tensor:
        """The angle of each reference direction from that of the surface, ``[V]`` radians, float64, on the CPU."""
        return self._gauge.clone()

    @property
    def areas(self) -> Tensor:
        """The area of each vertex, ``[V]``, in square units, float64."""
        return from_numpy(np.array(self.surface.areas)).to(self._device)

    def to(self, device: torch.device | str) -> Mesh:
        """Return the same mesh with its tensors on ``device``; operators follow the device of the signals.

        Args:
            device: where positions, faces and areas are given out.
        """
        moved = self._alike(self.orientations, self.gauge)
        moved._device = torch.device(device)
        moved._operators, moved._coarse = self._operators, self._coarse
        return moved

    def with_orientations(self, orientations: int) -> Mesh:
        """Return the same surface and gauge with another number of directions; the geometry is shared.

        Args:
            orientations: number Or of directions in each tangent plane, at least one.
        """
        return self._alike(orientations, self.gauge)

    def with_gauge(self, angles: Numbers) -> Mesh:
        r"""Return the same surface with the reference direction of each vertex turned counter-clockwise.

        The angle of a fixed vector decreases: its spin-k component is multiplied by :math:`\exp(-i k \alpha)`, as
        :func:`pdegcnn.gauge.transform` does.

        Args:
            angles: ``[V]`` radians, finite; they are added to :attr:`gauge`.

        Raises:
            ValueError: for another shape, or an angle that is not finite.
            TypeError: if the angles are not real numbers.
        """
        return self._alike(self.orientations, self.gauge + as_angles(angles, self.vertex_count))

    def _alike(self, orientations: int, gauge: Tensor) -> Mesh:
        mesh = Mesh(self.surface, orientations, gauge)
        mesh._device = self._device
        return mesh

    def prepare(
        self,
        *,
        radii: Sequence[float | None] = (),
        spins: Sequence[int] = (),
        bases: Mapping[int, int] | None = None,
        factors: Sequence[float] = (),
        progress: bool = False,
    ) -> Mesh:
        """Compute geometry now that layers would otherwise compute on first use, for example before :meth:`save`.

        Args:
            radii: radii of geodesic balls, in units (``kernel_size / 2`` of a PDE layer); None: the edges.
            spins: spins of Laplacians.
            bases: number of eigenfunctions for each spin, as :meth:`modes` counts them.
            factors: factors of :meth:`coarsen`.
            progress: show a bar on standard error, if ``tqdm`` is installed.

        Returns:
            This mesh.

        Raises:
            TypeError: if an argument is not a sequence, or ``bases`` not a mapping.
            ValueError: for a radius, number or factor out of range.
        """
        steps = mesh_building.steps(self, radii, spins, {} if bases is None else bases, factors)
        for _, step in mesh_building.with_bar(steps) if _checks.flag("progress", progress) else steps:
            step()
        return self

    @property
    def base_shape(self) -> tuple[int]:
        """Number of vertices."""
        return (self.vertex_count,)

    def coarser(self, factor: float, size: Sequence[int] | None = None) -> Mesh:
        """Return the mesh whose edges are about ``factor`` times as long; see :meth:`coarsen`.

        Args:
            factor: ratio of the lengths of edges, above 1: the result has about ``1 / factor**2`` of the vertices.
            size: its first number is the number of vertices, about, in place of ``factor``; fewer than this mesh has,
                or a ``ValueError`` is raised.
        """
        return self.coarsen(mesh_arguments.as_factor(factor, size, self.vertex_count))

    def coarsen(self, factor: float = 4.0) -> Mesh:
        """Return the same surface with about ``1 / factor`` of the vertices, computed once and kept.

        Vertices are removed within the surface, those of least area first, and the others joined by geodesic edges.
        Flat surfaces stay flat, and the boundary keeps its corners. The other vertices keep positions, reference
        directions and :attr:`source_vertices`. The unit of the result is its own mean edge. Meshes of a union
        are coarsened separately. :class:`pdegcnn.gauge.MeshPool` and ``MeshUnpool`` move signals between levels.

        Args:
            factor: ratio of the numbers of vertices, above 1; with the default 4, edges become about twice as long.

        Raises:
            ValueError: if ``factor`` is not above 1.
        """
        factor = _checks.plain_number("factor", factor, 1.0, math.inf, open_low=True)
        if factor not in self._coarse:
            level = self.surface.level(factor)
            gauge = self.gauge[from_numpy(level.kept)] + from_numpy(level.gauge)
            self._coarse[factor] = Mesh(level.surface, self.orientations, gauge)
        return self._coarse[factor].to(self._device)

    def interpolation(self, factor: float, like: Tensor) -> Interpolation:
        """Return the interpolation from the vertices of :meth:`coarsen` to these, in the gauges of the two meshes.

        Args:
            factor: ratio of the numbers of vertices, above 1.
            like: tensor that sets device and precision; half precision works in float32.
        """
        return self.cached(
            mesh_building.interpolation, like, _checks.plain_number("factor", factor, 1.0, math.inf, open_low=True)
        )

    def check_signal(self, name: str, u: Tensor) -> Tensor:
        """Return ``u`` if its layout is ``[B,C,Or,V]`` with this mesh's directions and vertices, else raise.

        Args:
            name: what error messages call the signal.
            u: anything.

        Raises:
            TypeError: if ``u`` is not a floating tensor.
            ValueError: if its shape does not fit.
        """
        super().check_signal(name, u)
        if tuple(u.shape[2:]) != (self.orientations, self.vertex_count):
            raise ValueError(
                f"{name}: expected {self.orientations} orientations and {self.vertex_count} vertices in {self.layout}, "
                f"got shape {tuple(u.shape)}"
            )
        return u

    def neighbours(self, radius: float | None, like: Tensor) -> Neighbours:
        """Return the pairs of near vertices, in this gauge.

        Args:
            radius: greatest geodesic distance of a pair, positive, in units; None: the edges.
            like: real or complex tensor that sets device and precision; half precision works in float32.
        """
        return self.cached(mesh_building.neighbours, like, as_radius(radius))

    def laplacian(self, spin: int, like: Tensor) -> tuple[SparseRows, Tensor]:
        """Return the weak Laplacian of spin-k fields (complex, dimensionless) and vertex areas ``[V]``, in this gauge.

        Both belong to the intrinsic Delaunay triangulation.

        Args:
            spin: k, an int; 0: functions, 1: tangent vectors.
            like: tensor that sets device and precision; half precision works in float32.
        """
        return self.cached(mesh_building.laplacian, like, as_spin(spin))

    def modes(self, spin: int, count: int, like: Tensor) -> tuple[Eigenmodes, ...]:
        """Return the ``count`` lowest eigenvalues and eigenfunctions (complex) of the spin-k Laplacian, in this gauge.

        They are computed on each connected component and are orthonormal for the vertex areas of :meth:`laplacian`.
        Multiple eigenvalues are never split: those within a relative distance of 1e-5 of the last one are added. A
        result that uses all of them therefore depends neither on the numbering of vertices nor on rounding. A component
        has at most as many functions as vertices.

        Args:
            spin: k, an int; 0: functions, 1: tangent vectors.
            count: eigenfunctions of each component, at least 1.
            like: tensor that sets device and precision; half precision works in float32.
        """
        return self.cached(mesh_building.modes, like, as_spin(spin), as_count(count))

    def eigenbasis(self, spin: int, count: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the :meth:`modes` of all components in one matrix: eigenvalues ``[K]``, eigenfunctions ``[V,K]``.

        Eigenvalues ascend; eigenfunctions are complex and zero outside their component. K exceeds ``count`` if there
        are several components.

        Args:
            spin: k, an int; 0: functions, 1: tangent vectors.
            count: eigenfunctions of each component, at least 1.
            like: tensor that sets device and precision; half precision works in float32.
        """
        return mesh_building.side_by_side(self.modes(spin, count, like))

    def cached(
        self,
        build: Callable[Concatenate[Mesh, Tensor, Options], Made],
        like: Tensor,
        *args: Options.args,
        **options: Options.kwargs,
    ) -> Made:
        """Return ``build(self, like, *args, **options)``: an operator that the mesh keeps for the device and precision.

        Args:
            build: a function defined in a module; it is the key together with its arguments.
            like: tensor that sets device and precision; half precision works in float32. The builder gets an empty
                tensor like it.
            args: further arguments of the builder, hashable.
            options: further arguments by name, hashable.
        """
        return self._operators.get(build, self, like, *args, **options)

    def frames_in_space(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the reference direction, the direction a quarter turn on, and the normal, ``[V,3]`` each."""
        x, y, z = self.cached(mesh_building.frames, torch.empty(0, dtype=torch.float64, device=self._device))
        return x.clone(), y.clone(), z.clone()

    def to_tangent(self, vectors: Numbers) -> Tensor:
        """Convert vectors in space to features of spin 1: complex numbers of their components in each tangent frame.

        The component along the normal is dropped: ``(vectors * mesh.frames_in_space()[2]).sum(-1)``, of spin 0.

        Args:
            vectors: ``[..., V, 3]``, real. A tensor keeps its precision; an array gets torch's default.

        Returns:
            ``[..., V]``, complex: for vectors ``[B,C,V,3]`` a field of spin 1 for the layers of :mod:`pdegcnn.gauge`.

        Raises:
            TypeError: if the vectors are not floating-point numbers.
            ValueError: for another shape, or for a mesh without positions in space.
        """
        kind = torch.get_default_dtype()
        given = vectors if isinstance(vectors, Tensor) else _checks.real_numbers("vectors", vectors, kind)
        _checks.tensor("vectors", given)
        if given.ndim < 2 or tuple(given.shape[-2:]) != (self.vertex_count, 3):
            raise ValueError(f"vectors: expected shape [..., {self.vertex_count}, 3], got {tuple(given.shape)}")
        x, y, _ = self.cached(mesh_building.frames, given)
        wide = given.to(x.dtype)
        return torch.complex((wide * x).sum(-1), (wide * y).sum(-1))

    def from_tangent(self, features: Tensor) -> Tensor:
        """Convert features of spin 1 to tangent vectors in space; :meth:`to_tangent` undoes it.

        Args:
            features: ``[..., V]``, complex: components along the reference direction and a quarter turn on.

        Returns:
            Vectors ``[..., V, 3]``, real.

        Raises:
            TypeError: if the features are not complex.
            ValueError: for another number of vertices, or for a mesh without positions in space.
        """
        check_features(features, self.vertex_count)
        x, y, _ = self.cached(mesh_building.frames, features)
        return features.real.unsqueeze(-1) * x + features.imag.unsqueeze(-1) * y

    def transform(self, signal: Tensor, **motion: Unpack[MotionOptions]) -> Tensor:
        """Move a signal by an isometry of the mesh onto itself.

        Turns that are not multiples of ``2 pi / Or`` use Fourier interpolation between directions.

        Args:
            signal: lifted signals ``[B,C,Or,V]``, functions ``[B,C,V]`` or invariants ``[B,K]``.
            motion: ``symmetry=`` the image of each vertex, ``[V]`` long.

        Raises:
            ValueError: for another motion, a signal of another shape, or a map that does not preserve edges, lengths
                and orientation.
            TypeError: for a signal that is not a floating tensor, or a map that is not of whole numbers.
        """
        if "symmetry" not in motion or len(motion) > 1:
            raise ValueError(f"motion: expected symmetry=image of each vertex, got {motion}")
        image, turn = mesh_isometry.isometry(self, motion["symmetry"])
        _checks.tensor("signal", signal)
        if signal.ndim < 3:
            return signal
        if signal.ndim == 4:
            signal = turn_fibre(self.check_signal("signal", signal), turn)
        elif signal.ndim != 3 or signal.shape[-1] != self.vertex_count:
            raise ValueError(
                f"signal: expected [B,C,{self.vertex_count}] or {self.layout}, got shape {tuple(signal.shape)}"
            )
        return torch.empty_like(signal).index_copy_(-1, image.to(signal.device), signal)

    def comparison_weights(self, signal: Tensor, **motion: Unpack[MotionOptions]) -> Tensor:
        """Return one, a tensor without axes: an isometry moves the whole mesh.

        Args:
            signal: the signal that is moved; sets device and dtype.
            motion: as in :meth:`transform`; not used.
        """
        return torch.ones((), dtype=signal.dtype, device=signal.device)

    def __repr__(self) -> str:
        faces = len(self.surface.triangulation.faces)
        return f"Mesh(vertices={self.vertex_count}, faces={faces}, orientations={self.orientations})"

    def __deepcopy__(self, memo: object) -> Mesh:
        return self  # immutable, and large

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_operators": OperatorCache(), "_coarse": {}}
