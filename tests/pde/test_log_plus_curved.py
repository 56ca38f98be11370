"""Log-plus on spheres, rotations and meshes: against the sum written out, and its laws."""

import math

import pytest
import torch

import pdegcnn as pg
from pdegcnn.functional import dilation, erosion
from pdegcnn.kernels import morphological_kernel
from pdegcnn.ops.directional_neighbors import coordinates, padded, source, squared_norm
from pdegcnn.pde import Options, solver_for
from pdegcnn.pde.mesh_neighbors import directional_neighbors
from tests.helpers import bumpy_sphere, random_rotation, sheet, spherical

GRIDS = pg.sphere.SphereGrid
SPHERES = [pg.S2(GRIDS.gauss_legendre(6)), pg.SO3(GRIDS.clenshaw_curtis(5), 4), pg.S2(GRIDS.healpix(2)),
           pg.SO3(GRIDS.icosahedral(0), 5)]  # fmt: skip
MESHES = [bumpy_sphere(1, orientations=4), sheet(4, 5, orientations=5), sheet(4, 5, orientations=1)]
SPACES = [*SPHERES, *MESHES]
TEMPERATURES = [1e-300, 1e-6, 1e-3, 0.05, 0.7]


def signal(space, seed=0, channels=2):
    torch.manual_seed(seed)
    if isinstance(space, pg.Mesh):
        return torch.randn(2, channels, space.orientations, space.vertex_count, dtype=torch.float64)
    fibre = (space.orientations,) if space.has_orientations else ()
    return torch.randn(2, channels, *fibre, *space.grid.shape, dtype=torch.float64)


def unequal(space):
    """Weights of a metric that differ between the channels, and where they may between the axes."""
    weights = torch.tensor([[0.8, 1.1, 0.9], [1.2, 0.7, 1.0]], dtype=torch.float64)
    return weights[:, : space.metric_dim]


def soft(u, space, metric, t, **options):
    return dilation(u, space, metric, semifield="log_plus", temperature=t, **options)


def written_out(u, space, metric, t, alpha):
    """``t log(sum a exp((u - k) / t) / sum a exp(-k / t))`` over all taps of the default window, a their areas."""
    solver = solver_for(space, "dilation", Options(), dtype=u.dtype)
    t = t.view(-1, *(1 for _ in u.shape[1:-1])) if isinstance(space, pg.Mesh) else t.view(-1, 1, 1, 1)
    values, weights = [], []
    if isinstance(space, pg.Mesh):
        count, (taps, radius) = space.orientations, solver.reach
        lists, matrix = directional_neighbors(space, radius, u), torch.diag_embed(metric**2)
        pairs, exists = padded(lists)
        direction = torch.arange(count)[:, None]
        for slot in range(lists.most):
            for s in range(taps):
                step = torch.tensor(s - taps // 2)
                y = coordinates(lists, pairs[:, slot], direction, step, count)
                cost = morphological_kernel(squared_norm(matrix, y), alpha)
                share = 0.5 if taps == count + 1 and s in (0, taps - 1) else 1.0
                area = torch.where(exists[:, slot], share * lists.areas[lists.columns[pairs[:, slot]]], 0)
                values.append(u.flatten(2)[:, :, source(lists, pairs[:, slot], direction, step, count)])
                weights.append(area.log() - cost / t)
    else:
        found = solver.window.neighbours
        rings, areas = found.as_rings(u), space.grid.weights.reshape(len(found.start) - 1, -1)[:, 0]
        squared = found.squared_distance(pg.kernels.as_metric(metric, space.metric_dim, u.shape[1]))
        cost = morphological_kernel(squared.expand(u.shape[1], *squared.shape[1:]), alpha)
        cost = cost.repeat(1, rings.shape[2] // cost.shape[1], 1)
        fibre, length = torch.arange(rings.shape[2])[:, None, None], torch.arange(rings.shape[4])
        counts = found.start.diff()
        for number in range(int(counts.max())):
            tap = found.start[:-1] + (counts - 1).clamp(max=number)
            ring, turn, shift = found.taps[tap].T[:, :, None]
            values.append(rings[:, :, (fibre + turn) % rings.shape[2], ring, (length + shift) % rings.shape[4]])
            area = torch.where(number < counts, areas[found.taps[tap, 0]], 0)
            weights.append((area.log() - cost[:, :, tap] / t[..., 0])[..., None])
    values, weights = torch.stack(values), torch.stack(weights).unsqueeze(1)
    total = torch.logsumexp(weights + values / t, 0) - torch.logsumexp(weights + 0 * values, 0)
    return (t * total).view(u.shape)


@pytest.mark.parametrize("alpha", [0.65, 1.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_it_is_the_sum_written_out(space, dtype, alpha):
    u, metric, t = signal(space).to(dtype), unequal(space).to(dtype), torch.tensor([0.05, 0.4], dtype=dtype)
    exact = written_out(u.double(), space, metric.double(), t.double(), alpha)
    came = soft(u, space, metric, t, alpha=alpha)
    assert came.dtype == dtype
    table = 1e-3 * t.double() if isinstance(space, pg.Mesh) else 0 * t.double()  # weights are linear between samples
    rounding = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-2}[dtype]
    allowed = (table + rounding).view(-1, *(1 for _ in u.shape[2:]))
    assert ((came.double() - exact).abs() <= allowed).all()


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_constants_order_and_duality(space):
    u, metric = signal(space), unequal(space)
    for t in TEMPERATURES:
        grown = soft(u, space, metric, t)
        assert torch.equal(soft(torch.full_like(u, 0.7), space, metric, t), torch.full_like(u, 0.7))
        assert torch.allclose(soft(u + 3, space, metric, t), grown + 3, rtol=0, atol=1e-12)
        assert (soft(u + torch.rand_like(u), space, metric, t) >= grown).all()
        shrunk = erosion(u, space, metric, semifield="log_plus", temperature=t)
        assert torch.equal(shrunk, -soft(-u, space, metric, t))
        axes = tuple(range(2, u.ndim))
        assert (grown <= u.amax(axes, keepdim=True)).all() and (grown >= u.amin(axes, keepdim=True)).all()


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_low_and_high_temperatures(space):
    """The dilation over samples, at most ``t log(N a)`` away for N taps whose areas differ a-fold, and a mean."""
    u, metric = signal(space), unequal(space)
    sharp = dilation(u, space, metric)
    areas = space.areas if isinstance(space, pg.Mesh) else space.grid.weights
    most = math.log(u[0, 0].numel() * float(areas.max() / areas.min()))
    for t in (1e-300, 1e-9, 1e-4, 1e-2):
        assert ((soft(u, space, metric, t) - sharp).abs() <= t * most + 1e-12).all()
    hot = [soft(u, space, metric, t) for t in (1e7, 1e8)]
    assert torch.allclose(*hot, rtol=0, atol=1e-6)
    both = [soft(u[:, :1] + x, space, metric[:1], 1e8) for x in (u[:, 1:], 0)]
    assert torch.allclose(both[0], both[1] + soft(u[:, 1:], space, metric[:1], 1e8), rtol=0, atol=1e-6)  # linear


@pytest.mark.parametrize("space", [SPHERES[0], SPHERES[1], MESHES[0]], ids=str)
def test_derivatives(space):
    torch.manual_seed(3)
    u, metric, t = signal(space)[:1], unequal(space).requires_grad_(), torch.tensor([0.3, 0.9], dtype=torch.float64)
    leaves = u.requires_grad_(), metric, t.requires_grad_()
    call = lambda u, m, t: soft(u, space, m, t, alpha=0.8)  # noqa: E731
    assert torch.autograd.gradcheck(call, leaves, fast_mode=True)
    if not isinstance(space, pg.Mesh):
        assert torch.autograd.gradgradcheck(call, leaves, fast_mode=True)
    weight = torch.randn_like(u)
    wanted = torch.autograd.grad((call(*leaves) * weight).sum(), leaves)
    came = torch.func.grad(lambda *x: (call(*x) * weight).sum(), (0, 1, 2))(*(x.detach() for x in leaves))
    for a, b in zip(wanted, came):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("space", [SPHERES[0], SPHERES[3], MESHES[0]], ids=str)
def test_an_automatic_window_cuts_nothing_that_counts(space):
    u, metric = signal(space), unequal(space)
    whole = soft(u, space, metric, 0.02, radius=(math.pi, math.pi) if not isinstance(space, pg.Mesh) else (4.0, 9.0))
    found = soft(u, space, metric, 0.02, kernel_size="auto")
    assert torch.allclose(found, whole, rtol=0, atol=1e-12)


def test_rotations():
    """Grids are denser near the poles, but points count by their areas: a turned signal gives a turned result."""
    torch.manual_seed(0)
    space, u = pg.S2(GRIDS.gauss_legendre(24)), spherical(pg.S2(GRIDS.gauss_legendre(24)), band=5.0)
    metric, rotation = torch.ones(2, 1, dtype=torch.float64), random_rotation()
    grown = soft(u, space, metric, 0.3, alpha=1.0, radius=math.pi)
    turned = soft(space.transform(u, rotation=rotation), space, metric, 0.3, alpha=1.0, radius=math.pi)
    off = turned - space.transform(grown, rotation=rotation)
    assert off.abs().max() < 0.02 * (grown - u).abs().max()


@pytest.mark.parametrize("space", [SPHERES[0], SPHERES[1], MESHES[0]], ids=str)
def test_a_layer_learns_its_temperature(space):
    torch.manual_seed(0)
    layer = pg.nn.Morphology(space, 2, semifield="log_plus", temperature=0.5, learn_temperature=True).double()
    u, wanted = signal(space), torch.tensor([0.1, 2.0], dtype=torch.float64)
    target = soft(u, space, layer.metric(), wanted).detach()
    optimiser = torch.optim.LBFGS([layer.temperature.raw], max_iter=30, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        found = (layer(u) - target).square().sum()
        found.backward()
        return found

    optimiser.step(loss)
    assert torch.allclose(layer.temperature().detach(), wanted, rtol=0.02)


def test_meshes_side_by_side():
    """A mesh of a union gets what it gets alone, however much lower the values of the other are."""
    a, b = MESHES[0], MESHES[0].coarsen(1.5)
    union, t = pg.Mesh.union([a, b]), 0.01
    first, second = signal(a), signal(b) - 50.0
    both = soft(torch.cat((first, second), 3), union, torch.ones(3, dtype=torch.float64), t, radius=2.0)
    alone = [soft(x, m, torch.ones(3, dtype=torch.float64), t, radius=2.0) for x, m in ((first, a), (second, b))]
    assert torch.allclose(both, torch.cat(alone, 3), rtol=0, atol=1e-12)
