"""Surfaces as triangle meshes, with signals on the bundle of unit tangent directions."""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._files import write_file
from pdegcnn._typing import Ints, Numbers, block_diag, from_numpy
from pdegcnn.spaces import mesh_building
from pdegcnn.spaces.base import MotionOptions, Space
from pdegcnn.spaces.mesh_arguments import as_count, as_radius, as_several, as_spin, check_unit, each
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
from pdegcnn.surface.archive import cut, from_arrays, to_arrays
from pdegcnn.surface.checks import (
    as_rows,
    as_whole,
    check_arrays,
    check_faces,
    check_lengths,
    check_manifold,
    edge_lengths,
)
from pdegcnn.surface.files import pyvista_surface, read_surface, trimesh_surface
from pdegcnn.surface.repair import cut_edges, repaired
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
        self._gauge = torch.zeros(self.vertex_count, dtype=torch.float64) if gauge is None else gauge
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
        return torch.tensor([1.0, 1.0, 2 * math.pi / self.orientations], dtype=torch.float64)

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
        return cls._placed(vertices, faces, None, repair, orientations, unit)

    @classmethod
    def _placed(
        cls,
        vertices: Numbers,
        faces: Numbers,
        known: Ints | None,
        repair: bool,
        orientations: int,
        unit: float | None,
    ) -> Mesh:
        """Make the mesh of :meth:`from_arrays`; ``known``: the row of ``vertices`` of each vertex of a file."""
        if _checks.flag("repair", repair):
            vertices, faces, kept = repaired(vertices, faces)
            known = kept if known is None else np.where(known < 0, -1, kept[known])
        vertices, faces = check_arrays(vertices, faces)
        check_unit(unit)
        lengths = edge_lengths(vertices, faces)
        surface = Surface(faces, lengths, vertices, len(vertices), unit, known)
        cut = cut_edges(vertices, faces, surface.triangulation.twin < 0)
        if len(cut):
            message = f"edges {cut[:8].tolist()}" + (f" and {len(cut) - 8} more" if len(cut) > 8 else "")
            message = f"vertices: expected one vertex at each place, got {message} that lie on others, unconnected"
            warnings.warn(f"{message}: the surface is cut there; repair=True joins it", stacklevel=3)
        return cls(surface, orientations)

    @classmethod
    def from_lengths(
        cls, faces: Numbers, lengths: Numbers, *, orientations: int = 8, unit: float | None = None
    ) -> Mesh:
        """Make a surface without positions: ``faces [F,3]`` and ``lengths [F,3]`` of the sides 01, 12, 20.

        Raises:
            ValueError: as in :meth:`from_arrays`, or if neighbouring faces disagree about their common side.
        """
        faces = as_rows("faces", faces, "[F,3] long", "iu").astype(np.int64)
        lengths = as_rows("lengths", lengths, "[F,3] numbers", "fiu").astype(np.float64)
        if not np.isfinite(lengths).all():
            raise ValueError("lengths: expected finite numbers, got NaN or infinity")
        if lengths.shape != faces.shape:
            raise ValueError(f"lengths: expected shape {faces.shape} as faces, got {lengths.shape}")
        count = int(faces.max()) + 1
        if count > faces.size:
            raise ValueError(
                f"faces: expected no isolated vertex, got {len(faces)} faces of vertices up to {count - 1}"
            )
        check_faces(faces, count)
        check_lengths(lengths)
        check_manifold(faces, count)
        check_unit(unit)
        surface = Surface(faces, lengths, None, count, unit)
        twin, sides = surface.triangulation.twin, lengths.ravel()
        bad = np.flatnonzero((twin >= 0) & (np.abs(sides - sides[twin]) > 1e-9 * sides))
        if bad.size:
            raise ValueError(f"lengths: expected one length for each edge, got two at faces {(bad // 3)[:8].tolist()}")
        return cls(surface, orientations)

    @classmethod
    def from_trimesh(cls, mesh: Any, *, orientations: int = 8, unit: float | None = None, repair: bool = False) -> Mesh:
        """Convert a ``trimesh.Trimesh``, without isolated vertices. Options are as in :meth:`from_arrays`."""
        return cls._placed(*trimesh_surface(mesh), repair, orientations, unit)

    @classmethod
    def from_pyvista(cls, mesh: Any, *, orientations: int = 8, unit: float | None = None, repair: bool = False) -> Mesh:
        """Convert a ``pyvista.PolyData``, or the surface of another data set, with polygons cut into triangles."""
        return cls._placed(*pyvista_surface(mesh), repair, orientations, unit)

    @classmethod
    def from_file(
        cls, path: str | Path, *, orientations: int = 8, unit: float | None = None, repair: bool = False
    ) -> Mesh:
        """Read a mesh from a file. Options are as in :meth:`from_arrays`.

        OBJ needs no other package; ``trimesh`` adds PLY, STL, OFF, GLB and others, ``pyvista`` VTK and VTP, ``nibabel``
        GIFTI (``.gii``, ``.gii.gz``). All objects, groups and materials form one surface, connected where they share
        positions; normals and texture coordinates do not cut it. Positions that a format repeats for each face (STL) or
        texture (glTF) are merged, up to a distance relative to the surface. Isolated positions are left out, polygons
        cut into triangles. :attr:`vertex_map` and :attr:`source_vertices` relate the vertices to those of the file.

        Raises:
            ImportError: if the package that reads the format is not installed.
            FileNotFoundError: if the file does not exist.
            ValueError: as in :meth:`from_arrays`, or if the file has no faces.

        Warns:
            UserWarning: as in :meth:`from_arrays`.
        """
        return cls._placed(*read_surface(path), repair, orientations, unit)

    @classmethod
    def union(cls, meshes: Sequence[Mesh]) -> Mesh:
        """Join meshes into one batch: vertices side by side, each mesh in its own unit, ``sizes`` vertices each.

        Signals are concatenated along the last axis, so a ``collate_fn`` for ``DataLoader`` takes a few lines: see
        ``docs/mesh.md``. Every layer gives each mesh the result that it gives the mesh alone, from geometry that was
        computed for the mesh. Global heads give one row for each mesh.
        """
        meshes = as_several(meshes, cls)
        if len({m.orientations for m in meshes}) > 1:
            raise ValueError(f"meshes: expected equal orientations, got {[m.orientations for m in meshes]}")
        surface = meshes[0].surface if len(meshes) == 1 else JoinedSurface([m.surface for m in meshes])
        return cls(surface, meshes[0].orientations, torch.cat([m.gauge for m in meshes])).to(meshes[0]._device)

    def save(self, path: str | Path) -> None:
        """Write the mesh and the operators it holds to a NumPy archive (``.npz``), completely or not at all."""
        store = {"gauge": self.gauge.numpy(), "directions": self.orientations, "sizes": np.array(self.sizes)}
        write_file(_archive(path), lambda fresh: np.savez(fresh, **store, **to_arrays(self.surface)))

    @classmethod
    def load(cls, path: str | Path) -> Mesh:
        """Read a mesh from an archive of :meth:`save`, under the same name.

        Raises:
            FileNotFoundError: if the file does not exist.
            ValueError: if it was not written by :meth:`save`, or is damaged.
        """
        found = _archive(path) if _archive(path).is_file() else Path(path)
        if not found.is_file():
            raise FileNotFoundError(f"path: expected a file of Mesh.save, got {str(path)!r}, which does not exist")
        try:
            with np.load(found, allow_pickle=False) as file:
                store = dict(file)
            gauge, directions, sizes = (store.pop(name) for name in ("gauge", "directions", "sizes"))
            joined = sizes.size > 1 and "faces" in store  # the former format of unions
            surface = cut(store, sizes) if joined else from_arrays(store)
            return cls(surface, int(directions), from_numpy(gauge))
        except (ValueError, TypeError, KeyError, IndexError, EOFError, OSError, BadZipFile, zlib.error) as error:
            raise ValueError(
                f"path: expected a file of Mesh.save, got {str(path)!r}, which is damaged or of another kind ({error})"
            ) from error

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
        return torch.arange(self.orientations, dtype=torch.float64) * (2 * math.pi / self.orientations)

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
        return (torch.arange(self.vertex_count) if known is None else from_numpy(np.array(known))).to(self._device)

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
        """Return the same mesh with its tensors on ``device``; operators follow the device of the signals."""
        moved = self._alike(self.orientations, self.gauge)
        moved._device = torch.device(device)
        moved._operators, moved._coarse = self._operators, self._coarse
        return moved

    def with_orientations(self, orientations: int) -> Mesh:
        """Return the same surface and gauge with another number of directions; the geometry is shared."""
        return self._alike(orientations, self.gauge)

    def with_gauge(self, angles: Numbers) -> Mesh:
        r"""Return the same surface with the reference direction of each vertex turned by ``+angles [V]`` radians.

        The angle of a fixed vector decreases: its spin-k component is multiplied by :math:`\exp(-i k \alpha)`, as
        :func:`pdegcnn.gauge.transform` does.
        """
        angles = _checks.real_numbers("angles", angles, torch.float64)
        if tuple(angles.shape) != (self.vertex_count,):
            raise ValueError(f"angles: expected shape [{self.vertex_count}], got {tuple(angles.shape)}")
        if not bool(angles.isfinite().all()):
            raise ValueError("angles: expected finite values, got NaN or infinity")
        return self._alike(self.orientations, self.gauge + angles)

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
        surface = self.surface
        steps: list[tuple[str, Callable[[], Any]]] = []
        for radius in map(as_radius, each("radii", radii)):
            name = "edges" if radius is None else f"ball of {radius} units"
            steps.append((name, lambda r=radius: surface.pairs(r)))
        for spin in map(as_spin, each("spins", spins)):
            steps.append((f"Laplacian of spin {spin}", lambda k=spin: surface.laplacian(k)))
        chosen: Mapping[int, int] = {} if bases is None else _checks.kind("bases", bases, Mapping, "a mapping by spin")
        for spin, number in chosen.items():
            spin, count = as_spin(spin), as_count(number)
            steps.append((f"{count} eigenfunctions", lambda k=spin, n=count: surface.modes(k, n)))
        steps += [(f"coarser by {f}", lambda f=f: self.coarsen(f)) for f in each("factors", factors)]
        for _, step in mesh_building.with_bar(steps) if _checks.flag("progress", progress) else steps:
            step()
        return self

    @property
    def base_shape(self) -> tuple[int]:
        """Number of vertices."""
        return (self.vertex_count,)

    def coarser(self, factor: float, size: Sequence[int] | None = None) -> Mesh:
        """Return the mesh whose edges are about ``factor`` times as long, or that has about ``size[0]`` vertices."""
        return self.coarsen(float(factor) ** 2 if size is None else self.vertex_count / size[0])

    def coarsen(self, factor: float = 4.0) -> Mesh:
        """Return the same surface with about ``1 / factor`` of the vertices, computed once and kept.

        Vertices are removed within the surface, those of least area first, and the others joined by geodesic edges.
        Flat surfaces stay flat, and the boundary keeps its corners. The other vertices keep positions and reference
        directions. The unit of the result is its own mean edge, as a coarser image has larger pixels. Meshes of a union
        are coarsened separately. :class:`pdegcnn.gauge.MeshPool` and ``MeshUnpool`` move signals between levels.

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
        """Return the interpolation from the vertices of :meth:`coarsen` to these, in the gauges of the two meshes."""
        return self.cached(
            mesh_building.interpolation, like, _checks.plain_number("factor", factor, 1.0, math.inf, open_low=True)
        )

    def check_signal(self, name: str, u: Tensor) -> Tensor:
        """Return ``u`` if its layout is ``[B,C,Or,V]`` with this mesh's directions and vertices, else raise."""
        super().check_signal(name, u)
        if tuple(u.shape[2:]) != (self.orientations, self.vertex_count):
            raise ValueError(
                f"{name}: expected {self.orientations} orientations and {self.vertex_count} vertices in {self.layout}, "
                f"got shape {tuple(u.shape)}"
            )
        return u

    def neighbours(self, radius: float | None, like: Tensor) -> Neighbours:
        """Return the pairs nearer than ``radius`` units (None: the edges), in this gauge; ``like`` may be complex."""
        return self.cached(mesh_building.neighbours, like, as_radius(radius))

    def laplacian(self, spin: int, like: Tensor) -> tuple[SparseRows, Tensor]:
        """Return the weak Laplacian of spin-k fields (complex, dimensionless) and vertex areas ``[V]``, in this gauge.

        Both belong to the intrinsic Delaunay triangulation.
        """
        return self.cached(mesh_building.laplacian, like, as_spin(spin))

    def modes(self, spin: int, count: int, like: Tensor) -> tuple[Eigenmodes, ...]:
        """Return the ``count`` lowest eigenvalues and eigenfunctions (complex) of the spin-k Laplacian, in this gauge.

        They are computed on each connected component and are orthonormal for the vertex areas of :meth:`laplacian`.
        Multiple eigenvalues are never split: those within a relative distance of 1e-5 of the last one are added. A
        result that uses all of them therefore depends neither on the numbering of vertices nor on rounding. A component
        has at most as many functions as vertices.
        """
        return self.cached(mesh_building.modes, like, as_spin(spin), as_count(count))

    def eigenbasis(self, spin: int, count: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the :meth:`modes` of all components in one matrix: eigenvalues ``[K]``, eigenfunctions ``[V,K]``.

        Eigenvalues ascend; eigenfunctions are complex and zero outside their component. K exceeds ``count`` if there
        are several components.
        """
        modes = self.modes(spin, count, like)
        if len(modes) == 1:
            return modes[0].values, modes[0].functions
        values, order = torch.cat([m.values for m in modes]).sort(stable=True)
        place = torch.cat([m.vertices for m in modes])
        functions = block_diag(*(m.functions for m in modes))[:, order]
        return values, torch.empty_like(functions).index_copy_(0, place, functions)

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
        """Convert features of spin 1, complex ``[..., V]``, to tangent vectors in space ``[..., V, 3]``.

        Raises:
            TypeError: if the features are not complex.
            ValueError: for another number of vertices, or for a mesh without positions in space.
        """
        given: Any = features
        if not (isinstance(given, Tensor) and given.is_complex() and given.layout is torch.strided):
            raise TypeError(f"features: expected a complex tensor for spin 1, got {_checks.described(given)}")
        if features.ndim < 1 or features.shape[-1] != self.vertex_count:
            raise ValueError(f"features: expected shape [..., {self.vertex_count}], got {tuple(features.shape)}")
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
        image, turn = self._symmetry(motion["symmetry"])
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

    def _symmetry(self, image: Numbers) -> tuple[Tensor, Tensor]:
        """Return the image of each vertex, and by how much its frame turns on the way, ``[V]`` radians."""
        to = as_whole("symmetry", image)
        t, n = self.surface.triangulation, self.vertex_count
        if to.shape != (n,) or not np.array_equal(np.sort(to), np.arange(n)):
            raise ValueError(f"symmetry: expected a permutation of {n} vertices, got shape {to.shape}")
        key, wanted = t.tail * n + t.head, to[t.tail] * n + to[t.head]
        order = np.argsort(key)
        place = order[np.minimum(np.searchsorted(key, wanted, sorter=order), key.size - 1)]
        lengths = t.lengths.ravel()
        if not np.array_equal(key[place], wanted) or not np.allclose(lengths[place], lengths, rtol=1e-6):
            raise ValueError("symmetry: expected a map that preserves faces, orientation and edge lengths")
        frames, gauge = self.surface.frames, self.gauge.numpy()
        turn = frames.angle[place[frames.first]] - gauge[to] + gauge  # the reference edge has angle -gauge
        return from_numpy(to), from_numpy(turn)

    def comparison_weights(self, signal: Tensor, **motion: Unpack[MotionOptions]) -> Tensor:
        """Return ones: an isometry moves the whole mesh."""
        return torch.ones((), dtype=signal.dtype, device=signal.device)

    def __repr__(self) -> str:
        faces = len(self.surface.triangulation.faces)
        return f"Mesh(vertices={self.vertex_count}, faces={faces}, orientations={self.orientations})"

    def __deepcopy__(self, memo: object) -> Mesh:
        return self  # immutable, and large

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_operators": OperatorCache(), "_coarse": {}}


def _archive(path: str | Path) -> Path:
    """Return the file that a mesh is written to under this name."""
    name = _checks.path(path)
    return name if name.suffix == ".npz" else Path(f"{name}.npz")
