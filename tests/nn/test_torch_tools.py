"""Torch's tools for batch norm, on the library's own: synchronisation, new statistics, freezing, fusing."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

import pdegcnn as pg

from ..helpers import SPHERE_CASES

S2 = SPHERE_CASES[0]
SPACES = [None, S2]


def norm(space: pg.S2 | None) -> pg.nn.BatchNorm:
    return pg.nn.BatchNorm(2, space, dtype=torch.float64)


def batch(size: int) -> Tensor:
    """Signals that differ between places of different area."""
    return torch.randn(size, 2, *S2.grid.shape, dtype=torch.float64) + torch.arange(S2.grid.shape[0])[:, None] ** 2


def convert(module: nn.Module, group: object = None) -> nn.Module:
    return nn.SyncBatchNorm.convert_sync_batchnorm(module, group)


class OneOfTwo:
    """A process group of two threads, each of which stands for a process."""

    def __init__(self) -> None:
        self.barrier, self.values = threading.Barrier(2), [torch.empty(0)] * 2
        self.rank = threading.local()

    def size(self) -> int:
        return 2

    def all_reduce(self, value: Tensor, group: OneOfTwo) -> None:
        assert group is self
        self.values[self.rank.number] = value.clone()
        self.barrier.wait()
        total = self.values[0] + self.values[1]
        self.barrier.wait()
        value.copy_(total)

    def run(self, function: Callable[[int], None]) -> None:
        def work(number: int) -> None:
            self.rank.number = number
            try:
                function(number)
            except BaseException:
                self.barrier.abort()
                raise
            done.append(number)

        done: list[int] = []
        threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(done) == 2


@pytest.mark.parametrize("sizes", [(3, 1), (2, 0)])
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_two_processes_normalise_as_one(
    space: pg.S2 | None, sizes: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values, gradients and running statistics, also where a process has no signals."""
    group, u, g = OneOfTwo(), batch(sum(sizes)), batch(sum(sizes))
    monkeypatch.setattr(dist, "all_reduce", group.all_reduce)
    alone = norm(space)
    x = u.clone().requires_grad_()
    wanted = alone(x)
    wanted.backward(g)
    twins = [convert(nn.Sequential(copy.deepcopy(alone).train()), group)[0] for _ in sizes]  # type: ignore[index]
    parts, grads = u.split(sizes), g.split(sizes)
    found: list[tuple[Tensor, Tensor]] = [(u, u)] * 2
    for twin in twins:
        assert type(twin) is pg.nn.BatchNorm
        twin.reset_running_stats()
        twin.zero_grad()

    def work(number: int) -> None:
        own = parts[number].clone().requires_grad_()
        out = twins[number](own)
        out.backward(grads[number])
        assert own.grad is not None
        found[number] = out.detach(), own.grad

    group.run(work)
    torch.testing.assert_close(torch.cat([out for out, _ in found]), wanted.detach())
    torch.testing.assert_close(torch.cat([grad for _, grad in found]), x.grad)
    for name, value in alone.named_parameters():
        total = sum(dict(twin.named_parameters())[name].grad for twin in twins)  # type: ignore[misc]
        torch.testing.assert_close(total, value.grad)
    for twin in twins:
        for name, value in alone.named_buffers():
            torch.testing.assert_close(dict(twin.named_buffers())[name], value)


def test_two_processes_normalise_spins_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    group = OneOfTwo()
    monkeypatch.setattr(dist, "all_reduce", group.all_reduce)
    alone = pg.gauge.SpinNorm({0: 2, 1: 2}, dtype=torch.float64)
    twins = [convert(copy.deepcopy(alone), group) for _ in range(2)]
    u = {0: torch.randn(3, 2, 5, dtype=torch.float64), 1: torch.randn(3, 2, 5, dtype=torch.complex128)}
    wanted, found = alone(u), [u] * 2

    def work(number: int) -> None:
        found[number] = twins[number]({k: v.split((2, 1))[number] for k, v in u.items()})

    group.run(work)
    for spin in u:
        torch.testing.assert_close(torch.cat([part[spin] for part in found]), wanted[spin])
    for twin in twins:
        torch.testing.assert_close(twin.state_dict(), alone.state_dict())


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_conversion_changes_nothing_for_one_process(space: pg.S2 | None) -> None:
    """Nor the names of the state; and the area of points goes on to count in copies."""
    layer = nn.Sequential(norm(space))
    wanted, names = layer(batch(3)), list(layer.state_dict())
    u = batch(3)
    wanted = copy.deepcopy(layer)(u)
    for twin in (convert(copy.deepcopy(layer)), convert(convert(copy.deepcopy(layer)))):
        assert list(twin.state_dict()) == names
        for same in (copy.deepcopy(twin), pickle.loads(pickle.dumps(twin)), twin):
            torch.testing.assert_close(same(u), wanted, rtol=0, atol=0)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_new_statistics_are_means_over_batches(space: pg.S2 | None) -> None:
    """``torch.optim.swa_utils.update_bn``."""
    layer, batches = nn.Sequential(norm(space)), [batch(2), batch(2)]
    layer(batch(2))
    update_bn(batches, layer)
    single = [norm(space) for _ in batches]
    for one, u in zip(single, batches):
        one.momentum = 1.0
        one(u)
    state = layer[0].state_dict()
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(state[name], sum(one.state_dict()[name] for one in single) / 2)  # type: ignore[operator]
    assert layer[0].momentum == 0.1 and state["num_batches_tracked"] == 2


def test_new_statistics_of_spins_are_means_over_batches() -> None:
    layer = pg.gauge.SpinNorm({1: 2})
    batches = [torch.randn(2, 2, 5, dtype=torch.complex64) for _ in range(2)]
    update_bn([({1: u},) for u in batches], layer)
    wanted = torch.stack([u.abs().square().mean((0, 2)) for u in batches]).mean(0)
    torch.testing.assert_close(layer.state_dict()["spin1_running_mean"], wanted)
    assert layer.momentum == 0.1


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_loops_over_batch_norms_reach_it(space: pg.S2 | None) -> None:
    """To freeze statistics, to set the momentum, to fill weights."""
    layer = nn.Sequential(norm(space))
    found = [m for m in layer.modules() if isinstance(m, _BatchNorm)]
    assert len(found) == 1
    nn.init.constant_(found[0].weight, 3.0)
    found[0].momentum = 0.5
    found[0].eval()
    before = copy.deepcopy(layer.state_dict())
    u = batch(2)
    torch.testing.assert_close(layer(u), 3 * u / (1 + 1e-5) ** 0.5)
    torch.testing.assert_close(layer.state_dict(), before)
    layer.train()(u)
    assert layer[0].momentum == 0.5 and not torch.equal(layer.state_dict()["0.running_mean"], before["0.running_mean"])


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_it_is_torch_batch_norm_where_points_count_alike(space: pg.S2 | None) -> None:
    """To the bit without a space, in both modes, with every option; weights of points are not rounded to half."""
    for options in ({}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}, {"eps": 0.1}):
        ours, theirs = pg.nn.BatchNorm(2, space, **options), nn.BatchNorm2d(2, **options)
        if ours.point_weights is not None:
            ours.point_weights = torch.ones_like(ours.point_weights)
        for mode in (True, True, False):
            u = batch(3).float()
            came, wanted = ours.train(mode)(u), theirs.train(mode)(u)
            torch.testing.assert_close(came, wanted, **({"rtol": 0, "atol": 0} if space is None else {}))
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    half = pg.nn.BatchNorm(2, space).half()
    if space is not None:
        assert torch.equal(half.point_weights, space.point_weights.float())  # type: ignore[arg-type, union-attr]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_statistics_are_those_of_full_precision_under_autocast(space: pg.S2 | None) -> None:
    u = torch.randn(3, 2, *S2.grid.shape) + 30
    wanted = pg.nn.BatchNorm(2, space)(u)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(pg.nn.BatchNorm(2, space)(u), wanted, rtol=0, atol=0)


def test_fused_convolution_and_other_statistics_by_call() -> None:
    """``fuse_conv_bn_eval`` reads the statistics; ``functional_call`` puts others in their place."""
    conv, layer = nn.Conv2d(2, 2, 1).double().eval(), norm(None)
    layer(batch(3))
    u = batch(2)
    torch.testing.assert_close(nn.utils.fuse_conv_bn_eval(conv, layer.eval())(u), layer(conv(u)))  # type: ignore[type-var]
    other = {k: v + 1 for k, v in layer.state_dict().items()}
    twin = copy.deepcopy(layer)
    twin.load_state_dict(other)
    torch.testing.assert_close(functional_call(layer, other, (u,)), twin(u), rtol=0, atol=0)
