"""Laws of `ReversibleStack`, in float64, against plain autograd on the same map."""

import copy
import math
import os
import pickle
import time

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.func import functional_call, grad, vjp, vmap

from pdegcnn.reversible import ReversibleStack, SymmetricConv, Telegraph, stability_report

D = torch.float64


class Block(nn.Module):
    def __init__(self, channels=4, dropout=0.0, norm=False, dtype=D):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, dtype=dtype)
        self.norm = nn.BatchNorm2d(channels, dtype=dtype) if norm else nn.Identity()
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        return self.drop(torch.tanh(self.norm(self.conv(x))))


def pair(depth=5, h=0.5, seed=0, **options):
    """A reversible stack and its copy under plain autograd."""
    torch.manual_seed(seed)
    stack = ReversibleStack([Block(**options) for _ in range(depth)], h=h)
    plain = copy.deepcopy(stack)
    plain.memory = "plain"
    return stack, plain


def states(seed=1, dtype=D, requires_grad=True):
    gen = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 4, 6, 6, generator=gen, dtype=dtype).requires_grad_(requires_grad) for _ in range(2)]


def loss(model, y, v=None):
    y, v = model(y, v)
    return (y**3).sum() + (v**2 * y).sum()


def gradients(model, *inputs):
    wanted = [p for p in [*inputs, *model.parameters()] if p.requires_grad]
    torch.manual_seed(7)
    return torch.autograd.grad(loss(model, *inputs), wanted)


def close(a, b, tolerance=1e-11):
    assert len(a) == len(b)
    scale = 1 + max(float(y.detach().abs().max()) for y in b)  # of all: a bias before batch norm has gradient zero
    for x, y in zip(a, b):
        assert (x - y).abs().max() <= tolerance * scale


@settings(max_examples=12, deadline=None)
@given(
    depth=st.integers(1, 7),
    h=st.floats(0.05, 0.9),
    seed=st.integers(0, 99),
    norm=st.booleans(),
    dropout=st.sampled_from([0.0, 0.5]),
)
def test_gradients_and_inverse(depth, h, seed, norm, dropout):
    stack, plain = pair(depth, h, seed, norm=norm, dropout=dropout)
    inputs = states(seed)
    close(gradients(stack, *inputs), gradients(plain, *inputs), 1e-9)
    for a, b in zip(stack.buffers(), plain.buffers()):
        assert torch.equal(a, b)
    assert all(int(b) == 1 for n, b in stack.named_buffers() if "tracked" in n)
    stack.eval()
    back = stack.inverse(*stack(*inputs))
    close(back, inputs, 1e-9)
    assert stack.drift(*states(seed, requires_grad=False)) < 1e-9


def test_gradcheck_twice():
    torch.manual_seed(0)
    stack = ReversibleStack([nn.Sequential(nn.Linear(2, 2, dtype=D), nn.Tanh()) for _ in range(3)], h=0.7)
    y, v = (torch.randn(2, 2, dtype=D, requires_grad=True) for _ in range(2))
    names = [n for n, _ in stack.named_parameters()]

    def run(y, v, *params):
        return functional_call(stack, dict(zip(names, params)), (y, v))

    assert torch.autograd.gradcheck(run, (y, v, *stack.parameters()))
    assert torch.autograd.gradgradcheck(run, (y, v, *stack.parameters()))


@pytest.mark.parametrize("options", [{}, {"norm": True}, {"dropout": 0.3}])
def test_double_backward(options):
    stack, plain = pair(4, **options)
    inputs = states()

    def second(model):
        torch.manual_seed(7)
        wanted = [*inputs, *model.parameters()]
        first = torch.autograd.grad(loss(model, *inputs), wanted, create_graph=True)
        return torch.autograd.grad(sum((g**2).sum() for g in first), wanted)

    close(second(stack), second(plain), 1e-10)


def test_double_backward_when_the_input_depends_on_the_parameters():
    torch.manual_seed(0)
    f = Block()
    stack, inputs = ReversibleStack([f] * 3, h=0.5), states()
    plain = ReversibleStack([f] * 3, h=0.5, memory="plain")

    def second(model):
        wanted = [inputs[0], *f.parameters()]
        first = torch.autograd.grad(loss(model, f(inputs[0])), wanted, create_graph=True)
        return torch.autograd.grad(sum((g**2).sum() for g in first), wanted)

    close(second(stack), second(plain), 1e-10)


def test_torch_func():
    stack, plain = pair(3)
    x = states(requires_grad=False)[0]

    def results(model):
        params = {n: p.detach() for n, p in model.named_parameters()}

        def value(params, x):
            y, v = functional_call(model, params, (x,))
            return (y**3).sum() + (v**2).sum()

        first = grad(value)(params, x)
        each = vmap(grad(value), (None, 0))(params, x[:, None])
        second = grad(lambda x: (grad(value, argnums=1)(params, x) ** 2).sum())(x)
        pulled = vjp(lambda x: value(params, x), x)[1](torch.tensor(2.0, dtype=D))
        return [*first.values(), *each.values(), second, *pulled]

    close(results(stack), results(plain), 1e-10)


def test_frozen_parameters_and_inputs_without_gradient():
    stack, plain = pair(4)
    for model in (stack, plain):
        model.layers[1].requires_grad_(False)
        model.layers[3].conv.bias.requires_grad_(False)
    close(gradients(stack, *states()), gradients(plain, *states()))
    still = states(requires_grad=False)
    close(gradients(stack, *still), gradients(plain, *still))
    for model in (stack, plain):
        model.requires_grad_(False)
    close(gradients(stack, *states()), gradients(plain, *states()))
    assert not stack(*still)[0].requires_grad


def test_retain_graph_and_accumulation():
    stack, plain = pair(4, dropout=0.4)
    for model in (stack, plain):
        torch.manual_seed(3)
        value = loss(model, *states())
        value.backward(retain_graph=True)
        value.backward()
    close([p.grad for p in stack.parameters()], [p.grad for p in plain.parameters()])


def test_the_random_stream_goes_on_as_with_plain_autograd():
    stack, plain = pair(4, dropout=0.4)
    draws = []
    for model in (stack, plain):
        gradients(model, *states())
        draws.append(torch.rand(3))
    assert torch.equal(*draws)
    with pytest.raises(RuntimeError, match=r"layers\[3\].*randomness"):
        stack.inverse(*states())


def test_buffer_read_in_forward_and_written_before_backward_raises():
    stack, _ = pair(2, norm=True)
    stack.eval()
    value = loss(stack, *states())
    stack.layers[0].norm.running_mean.add_(1)
    with pytest.raises(RuntimeError, match="norm.running_mean"):
        value.backward()


@pytest.mark.parametrize("around_backward", [False, True])
def test_autocast(around_backward):
    torch.manual_seed(0)
    stack = ReversibleStack([Block(dtype=torch.float32) for _ in range(6)], h=0.5)
    plain = copy.deepcopy(stack)
    plain.memory = "plain"
    found = []
    for model in (stack, plain):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(model, *states(dtype=torch.float32))
            if around_backward:
                value.backward()
        if not around_backward:
            value.backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert (found[0] - found[1]).norm() <= 0.02 * found[1].norm()
    assert value.dtype == torch.float32


def test_nested_stacks():
    torch.manual_seed(0)

    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.stack = ReversibleStack([Block(norm=True, dropout=0.2) for _ in range(2)], h=0.6)

        def forward(self, x):
            return self.stack(x)[1]

    stack = ReversibleStack([First(), First()], h=0.8)
    plain = copy.deepcopy(stack)
    for m in plain.modules():
        if isinstance(m, ReversibleStack):
            m.memory = "plain"
    close(gradients(stack, *states()), gradients(plain, *states()))
    for a, b in zip(stack.buffers(), plain.buffers()):
        assert torch.equal(a, b)


@pytest.mark.parametrize("memory", ["checkpoint", "checkpoint_sqrt"])
@pytest.mark.parametrize("exact", [False, True])
def test_all_memory_modes_are_one_map(memory, exact):
    stack, plain = pair(5)
    stack.memory, stack.exact, plain.exact = memory, exact, exact
    close(gradients(stack, *states()), gradients(plain, *states()))


def test_telegraph_shares_its_module_and_copies_well():
    torch.manual_seed(0)
    flow = Telegraph(Block(), steps=4, h=0.5)
    listed = ReversibleStack([flow.layers[0]] * 4, h=0.5, memory="plain")
    close(gradients(flow, *states()), gradients(listed, *states()))
    twins = [copy.deepcopy(flow), pickle.loads(pickle.dumps(flow)), Telegraph(Block(), steps=4, h=0.5)]
    twins[2].load_state_dict(flow.state_dict())
    for twin in twins:
        close(gradients(twin, *states()), gradients(flow, *states()), 0.0)


def test_damping():
    stack, plain = pair(4)
    stack.damping = plain.damping = 0.2
    close(gradients(stack, *states()), gradients(plain, *states()))
    close(stack.inverse(*stack(*states())), states())


def test_compile_has_one_graph_break():
    graphs = []

    def backend(module, _):
        graphs.append(module)
        return module.forward

    torch.manual_seed(0)
    stack = ReversibleStack([Block() for _ in range(3)], h=0.3)

    def net(x):
        return stack(torch.sin(x))[0].cos()

    x = states()[0]
    out = torch.compile(net, backend=backend)(x)
    close([out], [net(x)])
    assert len(graphs) == 2  # before and after: one break per stack
    torch._dynamo.reset()


def _worker(rank, path, parent):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{path}.store", rank=rank, world_size=2)
    stack, _ = pair(3, norm=True, seed=0)
    model = nn.parallel.DistributedDataParallel(stack)
    for _ in range(2):
        loss(model, *states(seed=rank, requires_grad=False)).backward()
    found = {"ddp": [p.grad for p in stack.parameters()]}
    stack, _ = pair(3, norm=True, seed=0)
    mesh = dist.init_device_mesh("cpu", (2,))
    fully_shard(stack, mesh=mesh)
    for _ in range(2):
        loss(stack, *states(seed=rank, requires_grad=False)).backward()
    found["fsdp"] = [p.grad.full_tensor() for p in stack.parameters()]
    stack, _ = pair(2)
    fully_shard(stack.layers[1], mesh=mesh)
    with pytest.raises(ValueError, match=r"layers\[1\].*sharded on its"):
        stack(*states())
    if rank == 0:
        torch.save(found, f"{path}.part")
        os.replace(f"{path}.part", path)
    while os.getppid() == parent:  # gloo's own teardown can wait forever for a peer that has gone: the test ends both
        time.sleep(0.1)


def test_ddp_and_fsdp_with_two_processes(tmp_path):
    workers = mp.spawn(_worker, args=(str(tmp_path / "grads.pt"), os.getpid()), nprocs=2, join=False)
    try:
        while not (tmp_path / "grads.pt").exists():
            workers.join(timeout=0.2)  # raises what a process raised
    finally:
        for process in workers.processes:
            process.kill()
    found = torch.load(tmp_path / "grads.pt")
    expected = [0.0] * len(found["ddp"])
    for rank in range(2):
        _, plain = pair(3, norm=True, seed=0)
        expected = [e + g for e, g in zip(expected, gradients(plain, *states(seed=rank, requires_grad=False)))]
    close(found["ddp"], expected)  # two steps accumulated of the mean over two ranks
    close(found["fsdp"], expected)


class Odd(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        return {
            "shape": lambda: x[..., :-1],
            "in place": lambda: x.mul_(2),
            "tuple": lambda: (x, x),
            "nan": lambda: x * math.nan,
        }[self.kind]()


@pytest.mark.parametrize(
    "kind, error, message",
    [
        ("shape", ValueError, r"layers\[0\] \(Odd\): expected an output of the shape"),
        ("in place", ValueError, "in place"),
        ("tuple", TypeError, "tuple"),
        ("nan", ValueError, "finite"),
    ],
)
@pytest.mark.parametrize("memory", ["reversible", "plain"])
def test_bad_layers(kind, error, message, memory):
    with pytest.raises(error, match=message):
        ReversibleStack([Odd(kind)], memory=memory)(*states(requires_grad=False))


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"layers": []}, ValueError, "layers"),
        ({"layers": [torch.tanh]}, TypeError, r"layers\[0\]"),
        ({"h": 0.0}, ValueError, "h: expected"),
        ({"damping": 1.0}, ValueError, "damping"),
        ({"damping": 0.1, "exact": True}, ValueError, "damping"),
        ({"grid": 0.3}, ValueError, "grid"),
        ({"memory": "tape"}, ValueError, "memory"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        ReversibleStack(**{"layers": [nn.Tanh()], **arguments})


def test_bad_states():
    stack = ReversibleStack([nn.Tanh()])
    y, _ = states()
    for bad, error in ((y[:1], ValueError), (y.float(), TypeError), (y.int(), TypeError), (3, TypeError)):
        with pytest.raises(error, match="v: expected"):
            stack(y, bad)
    with pytest.raises(TypeError, match="y: expected"):
        stack([1.0])
    with pytest.raises(ValueError, match=r"y: expected at least one number, got shape \(0, "):
        stack.drift(y[:0])
    with pytest.raises(TypeError, match="float32 or float64"):
        ReversibleStack([nn.Tanh()], exact=True)(y.bfloat16())


@pytest.mark.parametrize("dtype, error", [(torch.bfloat16, 0.1), (torch.float16, 0.015)])
def test_states_of_half_precision_keep_their_inverse_at_depth(dtype, error):
    """Beside the same network in float64. Kept in half precision the states had gradients 0.25 and 0.027 off."""
    torch.manual_seed(0)
    layer = SymmetricConv(4, activation="tanh").to(dtype)
    wide = SymmetricConv(4, activation="tanh", dtype=D)
    wide.load_state_dict(layer.state_dict())
    y = states(requires_grad=False)[0].to(dtype)
    assert Telegraph(layer, steps=400, h=0.2).drift(y) <= 0.1 * error + 0.005
    found = []
    for f, memory in ((wide, "plain"), (layer, "plain"), (layer, "reversible")):
        x = y.to(f.weight.dtype).requires_grad_()
        out = Telegraph(f, steps=400, h=0.2, memory=memory)(x)
        grads = torch.autograd.grad(sum(o.to(D).square().sum() for o in out), [x, *f.parameters()])
        assert all(t.dtype == x.dtype for t in (*out, *grads))
        found.append([*out, *grads])
    with torch.no_grad():
        found.append(Telegraph(layer, steps=400, h=0.2)(y))
    for values in found[1:]:
        for a, b in zip(values, found[0]):
            assert (a.to(D) - b).norm() <= error * b.norm()


def test_the_inverse_of_rounded_states_is_refused_where_it_would_be_wrong():
    layer = SymmetricConv(4, activation="tanh").bfloat16()
    y = states(dtype=torch.float32, requires_grad=False)[0].bfloat16()
    short = Telegraph(layer, steps=64, h=0.2)
    with torch.no_grad():
        back, _ = short.inverse(*short(y))
        assert back.dtype == y.dtype and (back - y).abs().max() <= 0.25 * y.abs().max()
        with pytest.raises(TypeError, match="expected states of float32 for the inverse of more than 64 layers"):
            Telegraph(layer, steps=65, h=0.2).inverse(*short(y))
    assert stability_report(short, y).bounded


@pytest.mark.parametrize("memory", ["reversible", "plain", "checkpoint"])
def test_a_stack_as_a_part_of_a_sequence(memory) -> None:
    """``output="state"`` gives the first of both states, with the same gradients."""
    torch.manual_seed(0)
    layers = [SymmetricConv(2).double() for _ in range(3)]
    both = ReversibleStack(layers, h=0.2, memory=memory)
    alone = ReversibleStack(copy.deepcopy(layers), h=0.2, memory=memory, output="state")
    x = torch.rand(1, 2, 5, 5, dtype=torch.float64)
    model = nn.Sequential(alone, nn.Conv2d(2, 1, 1).double())
    torch.testing.assert_close(model(x), model[1](both(x)[0]), atol=1e-12, rtol=0)
    both(x)[0].sum().backward()
    alone(x).sum().backward()
    for p, q in zip(both.parameters(), alone.parameters()):
        torch.testing.assert_close(p.grad, q.grad, atol=1e-12, rtol=0)
    with pytest.raises(ValueError, match="^output: expected one of 'states', 'state', got 'y'"):
        ReversibleStack(layers, output="y")
