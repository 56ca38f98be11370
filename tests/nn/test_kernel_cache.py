"""Evaluation mode computes each kernel once, and notices every change of what the kernel depends on."""

import copy
import pickle

import pytest
import torch

import pdegcnn as pg
from pdegcnn.pde import grid
from pdegcnn.pde.kernel_cache import KernelCache

SPACE = pg.SE2(4)
TERMS = ["diffusion", "dilation", "erosion"]


@pytest.fixture
def built(monkeypatch):
    """Counts the kernels that are computed."""
    calls = []
    for name in ("morphology_kernel", "heat_kernel"):
        inner = getattr(grid, name)
        monkeypatch.setattr(grid, name, lambda *a, inner=inner: (calls.append(1), inner(*a))[1])
    return calls


def layer(term, **options):
    return pg.nn.PDELayer(SPACE, 2, 2, (term,), kernel_size=3, alpha=0.7, batch_norm=False, **options)


def only(net):
    return next(iter(net.terms.values()))


def u():
    return torch.randn(1, 2, 4, 6, 7)


@pytest.mark.parametrize("term", TERMS)
def test_one_kernel_in_use_one_per_call_in_training(term, built):
    net = layer(term)
    net(u()), net(u())
    assert len(built) == 2
    net.eval()(u())
    assert len(built) == 3, "gradients may be wanted, so the kernel must be part of the graph"
    with torch.no_grad():
        first = u()
        outs = [net(first), net(first)]
        net(u())
    assert len(built) == 4
    assert torch.equal(*outs)
    with torch.no_grad():
        assert torch.equal(outs[0], net.train()(first))


CHANGES = {
    "optimizer step": lambda net: torch.optim.SGD(net.parameters(), 0.1).step(),
    "in place": lambda net: only(net).metric.raw.add_(0.3),
    "by data": lambda net: only(net).metric.raw.data.mul_(0.5),
    "state": lambda net: net.load_state_dict({k: v + 0.1 for k, v in net.state_dict().items()}),
    "power": lambda net: net.power.raw.data.add_(0.5),
    "dtype": lambda net: net.double(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("term", TERMS)
def test_changes_are_noticed(term, change):
    net = layer(term, learn_alpha=True).eval()
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    x = u()
    with torch.no_grad():
        before = net(x)
        CHANGES[change](net)
        x = x.to(next(net.parameters()).dtype)
        after = net(x)
        fresh = layer(term, learn_alpha=True).to(x.dtype).eval()
        fresh.load_state_dict(net.state_dict())
        assert torch.equal(after, fresh(x))
        if change != "dtype":
            assert not torch.equal(before, after)


def test_the_state_copies_and_pickles_do_not_hold_it():
    net = layer("dilation").eval()
    names = set(net.state_dict())
    size = len(pickle.dumps(net))
    with torch.no_grad():
        out = net(x := u())
        assert set(net.state_dict()) == names
        assert len(pickle.dumps(net)) == size
        for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            assert torch.equal(twin(x), out)
            assert twin.terms["dilation"].solver.caches[0] is not net.terms["dilation"].solver.caches[0]


def test_inference_mode_does_not_poison_training():
    net = layer("dilation").eval()
    with torch.inference_mode():
        net(u())
    x = u().requires_grad_()
    net(x).sum().backward()
    assert x.grad is not None and net.terms["dilation"].metric.raw.grad is not None
    with torch.no_grad():
        net(u())


def test_auto_sizes_follow_the_signal(built):
    net = pg.nn.PDELayer(pg.SE2(4), 2, 2, ("dilation",), kernel_size="auto").eval()
    with torch.no_grad():
        small, large = u() * 0.1, u() * 10
        outs = [net(small), net(large)]
        cold = [copy.deepcopy(net)(x) for x in (small, large)]
    assert all(torch.equal(a, b) for a, b in zip(outs, cold))


def test_traces_export_and_transforms_leave_it_alone(built):
    net = layer("dilation").eval()
    x = u()
    with torch.no_grad():
        wanted = net(x)
        kernel = net.terms["dilation"].solver.caches[0]._entry
        compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
        assert torch.allclose(compiled(x), wanted, atol=1e-6)
        exported = torch.export.export(net, (x,)).module()
        assert torch.allclose(exported(x), wanted, atol=1e-6)
        stacked = {k: torch.stack([v, v + 0.1]) for k, v in net.state_dict().items()}
        many = torch.func.vmap(lambda s: torch.func.functional_call(net, s, (x,)))(stacked)
        assert torch.allclose(many[0], wanted, atol=1e-6) and not torch.allclose(many[1], wanted, atol=1e-2)
    assert net.terms["dilation"].solver.caches[0]._entry is kernel


def test_a_cache_refuses_to_keep_what_needs_gradients():
    cache = KernelCache()
    p = torch.ones(2, requires_grad=True)
    assert cache.get("k", [p], lambda: p * 2).requires_grad
    assert cache._entry is None
