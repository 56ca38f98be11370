"""Hooks on layers inside a stack see and change what they would under plain autograd, in every memory mode."""

import contextlib
import copy
from collections import defaultdict

import pytest
import torch
from torch import nn
from torch.nn.modules import module as modules
from torch.utils.flop_counter import FlopCounterMode

from pdegcnn.reversible import (
    Inverse,
    LearnableOrthogonal,
    ReversibleStack,
    SymmetricConv,
    SymmetricGroupConv,
    Wavelet,
)

D = torch.float64
pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing", "ignore:Using a non-full backward hook")
MODES = ("reversible", "checkpoint", "checkpoint_sqrt")


class Inner(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.stack = ReversibleStack([symmetric(dtype), generic(dtype)], h=0.7)

    def forward(self, y):
        return self.stack(y)[1]


def generic(dtype):
    return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, dtype=dtype), nn.Tanh())


def symmetric(dtype):
    return SymmetricConv(4, activation="tanh", init_norm=2.0, dtype=dtype)


def group(dtype):
    class Flat(SymmetricGroupConv):
        def forward(self, y):
            return super().forward(y[:, None])[:, 0]

        def value_and_vjp(self, y, g, values, wanted):
            out, pulled, found = super().value_and_vjp(y[:, None], g[:, None], values, wanted)
            return out[:, 0], pulled[:, 0], found

    return Flat(1, 4, activation="tanh", init_norm=2.0, dtype=dtype)


LAYERS = {"generic": generic, "symmetric": symmetric, "group": group, "nested": Inner}


def watch(seen, name):
    """A hook of a tensor that notes its gradient and changes it."""

    def hook(grad):
        seen[name].append(grad.clone())
        return grad * 1.5

    return hook


def on_each(register):
    """A kind of hook that is put on all modules and submodules of the stack's layers."""

    def put(stack, seen):
        inside = [(n, m) for n, m in stack.layers.named_modules() if n]
        return [handle for name, module in inside for handle in register(module, name, seen)]

    return put


def noted(seen, name, tensors):
    seen[name].append(None if tensors[0] is None else tensors[0].clone())


def backward(module, name, seen):
    def hook(module, before, after):
        noted(seen, name + " before", before)
        noted(seen, name + " after", after)
        return tuple(None if g is None else g.clamp(-0.5, 0.5) for g in before)

    return [module.register_full_backward_hook(hook)]


def backward_pre(module, name, seen):
    def hook(module, after):
        noted(seen, name, after)
        return tuple(None if g is None else g.clamp(-0.1, 0.1) for g in after)

    return [module.register_full_backward_pre_hook(hook)]


def old_backward(module, name, seen):
    if len(list(module.children())):  # such a hook sees the last operation only; torch asks for the full one here
        return []
    return [module.register_backward_hook(lambda module, before, after: noted(seen, name, after))]


def first(output):
    return output[0] if isinstance(output, tuple) else output


def of_tensors(module, name, seen):
    def hook(module, inputs, output):
        first(output).register_hook(watch(seen, name))

    return [module.register_forward_hook(hook)]


def of_nodes(module, name, seen):
    def hook(module, inputs, output):
        if not isinstance(output, tuple):
            output.grad_fn.register_prehook(lambda grads: noted(seen, name, grads))

    return [module.register_forward_hook(hook)]


def forward(module, name, seen):
    return [module.register_forward_hook(lambda module, inputs, output: 0.7 * output)] if "stack" not in name else []


def forward_pre(module, name, seen):
    return [module.register_forward_pre_hook(lambda module, inputs: (inputs[0].sin(),))] if "stack" not in name else []


def of_parameters(stack, seen):
    return [p.register_hook(watch(seen, name)) for name, p in stack.named_parameters()]


def after_accumulation(stack, seen):
    named = list(stack.named_parameters())
    return [p.register_post_accumulate_grad_hook(lambda p, n=n: noted(seen, n, [p.grad])) for n, p in named]


def of_many(stack, seen):
    def note(grads):
        seen["all"] += [g.clone() for g in grads]

    return [torch.autograd.graph.register_multi_grad_hook(list(stack.parameters()), note)]


def everywhere(register):
    """A hook of all modules; it notes the gradients by kind of module."""

    def put(stack, seen):
        def hook(module, *grads):
            noted(seen, type(module).__name__, grads[-1])

        return [register(hook)]

    return put


def everywhere_forward(stack, seen):
    def hook(module, inputs, output):
        if first(output).requires_grad:
            first(output).register_hook(watch(seen, type(module).__name__))

    return [modules.register_module_forward_hook(hook)]


KINDS = {
    "full backward": on_each(backward),
    "backward pre": on_each(backward_pre),
    "backward of old": on_each(old_backward),
    "tensor": on_each(of_tensors),
    "node": on_each(of_nodes),
    "forward": on_each(forward),
    "forward pre": on_each(forward_pre),
    "parameter": of_parameters,
    "after accumulation": after_accumulation,
    "many parameters": of_many,
    "global backward": everywhere(modules.register_module_full_backward_hook),
    "global backward pre": everywhere(modules.register_module_full_backward_pre_hook),
    "global forward": everywhere_forward,
}


def run(stack, kind, memory, wants=True, amp=False, early=False):
    """What the hooks saw, by name, and all gradients; ``early``: hooks are taken off before the backward pass."""
    stack = copy.deepcopy(stack)
    for module in stack.modules():
        if isinstance(module, ReversibleStack):
            module.memory = memory
    dtype = next(stack.parameters()).dtype
    x = torch.randn(1, 4, 4, 4, dtype=dtype, generator=torch.Generator().manual_seed(1)).requires_grad_(wants)
    seen = defaultdict(list)
    with contextlib.ExitStack() as handles:
        for handle in KINDS[kind](stack, seen):
            handles.callback(handle.remove)
        with torch.autocast("cpu", torch.bfloat16, enabled=amp, cache_enabled=False):
            y, v = stack(x)
        if early:
            handles.close()
        ((y**3).sum() + (v**2 * y).sum()).backward()
    return seen, [t.grad for t in (x, *stack.parameters()) if t.grad is not None]


def agree(found, expected, tolerance):
    assert found[0].keys() == expected[0].keys()
    assert len(found[1]) == len(expected[1])
    pairs = [*zip(found[1], expected[1])]
    for name, values in expected[0].items():
        assert len(found[0][name]) == len(values), name
        pairs += zip(found[0][name], values)
    for a, b in pairs:
        assert (a is None) == (b is None)
        assert a is None or (a.dtype == b.dtype and (a - b).abs().max() <= tolerance * (1 + b.abs().max()))


def test_the_input_of_a_first_layer_stays_as_it_was():
    """What only the first layer sees has its whole gradient: nothing before it wants one."""
    found = []
    for memory in ("reversible", "plain"):
        stack, kept = build("generic"), []
        stack.memory = memory
        stack.layers[0].requires_grad_(False)
        stack.layers[1].register_forward_hook(lambda module, inputs, output, kept=kept: kept.append(output))
        y, _ = stack(torch.ones(1, 4, 4, 4, dtype=D))
        loss = y.square().sum() + kept[0].square().sum()
        found.append(torch.autograd.grad(loss, [p for p in stack.parameters() if p.requires_grad]))
    for a, b in zip(*found):
        assert torch.allclose(a, b, 1e-11, 1e-11)


def build(name, dtype=D, **options):
    torch.manual_seed(0)
    return ReversibleStack([LAYERS[name](dtype) for _ in range(3)], h=0.6, **options)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("kind", KINDS)
def test_hooks_see_and_change_what_plain_autograd_shows(kind, name):
    stack = build(name)
    expected = run(stack, kind, "plain")
    assert expected[0] or kind.startswith("forward")
    for memory in MODES:
        agree(run(stack, kind, memory), expected, 1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_hooks_under_exact_autocast_and_with_a_fixed_input(kind):
    """In exact mode every state is that of plain autograd, and so is what hooks of generic layers see."""
    exact = build("generic", torch.float32, exact=True)
    for wants, amp in ((True, False), (False, False), (True, True)):
        expected = run(exact, kind, "plain", wants, amp)
        agree(run(exact, kind, "reversible", wants, amp), expected, 0.0)
    agree(
        run(build("symmetric", exact=True), kind, "reversible"),
        run(build("symmetric", exact=True), kind, "plain"),
        1e-9,
    )


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("parameter", "after accumulation", "many parameters")])
def test_hooks_taken_off_before_the_backward_pass_count_as_in_the_forward_pass(kind):
    for name in ("generic", "symmetric"):
        stack = build(name)
        expected = run(stack, kind, "plain", early=True)
        for memory in MODES:
            agree(run(stack, kind, memory, early=True), expected, 1e-10)


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("forward", "forward pre")])
def test_hooks_of_transitions(kind):
    torch.manual_seed(0)
    split = LearnableOrthogonal(dtype=D)
    nn.init.normal_(split.skew)
    layers = [split, SymmetricConv(16, rank=3, dtype=D), Inverse(split), Wavelet(), SymmetricConv(16, dtype=D)]
    stack = ReversibleStack(layers, h=0.5)
    for wants in (True, False):
        expected = run(stack, kind, "plain", wants)
        for memory in MODES:
            agree(run(stack, kind, memory, wants), expected, 1e-10)


def test_forward_hooks_run_once_more_in_the_backward_pass():
    for name in ("generic", "symmetric"):
        stack, calls = build(name), []
        stack.layers[0].register_forward_hook(lambda module, inputs, output, calls=calls: calls.append(output))
        loss = stack(torch.randn(1, 4, 4, 4, dtype=D))[0].sum()
        assert len(calls) == 1
        loss.backward()
        assert len(calls) == 2 and torch.allclose(*calls)
        with torch.no_grad():
            stack(torch.randn(1, 4, 4, 4, dtype=D))
        assert len(calls) == 3 and not calls[-1].requires_grad


def test_an_output_that_keeps_its_gradient():
    """As for class activation maps: the hook stores the output, its gradient is read after the backward pass."""
    found = []
    for memory in ("reversible", "plain"):
        stack, kept = build("symmetric"), {}
        stack.memory = memory

        def keep(module, inputs, output, kept=kept):
            output.retain_grad()
            kept["output"] = output

        stack.layers[1].register_forward_hook(keep)
        (stack(torch.ones(1, 4, 4, 4, dtype=D, requires_grad=True))[0] ** 3).sum().backward()
        found.append((kept["output"].detach(), kept["output"].grad))
    for a, b in zip(*found):
        assert torch.allclose(a, b, 1e-12, 1e-12)


def test_a_tensor_taken_out_of_a_layer_has_no_gradient_and_says_so():
    stack, kept = build("generic"), []
    stack.layers[1][0].register_forward_hook(lambda module, inputs, output: kept.append(output))
    y, _ = stack(torch.randn(1, 4, 4, 4, dtype=D))
    with pytest.raises(
        RuntimeError, match=r"layers\[1\] \(Sequential\): expected no gradient for a tensor taken out .* memory='plain'"
    ):
        (y.sum() + kept[0].square().sum()).backward()

    class Storing(nn.Conv2d):
        def forward(self, y):
            self.last = super().forward(y)
            return self.last

    stack = ReversibleStack([Storing(4, 4, 1, dtype=D)])
    stack(torch.randn(1, 4, 4, 4, dtype=D, requires_grad=True))
    with pytest.raises(RuntimeError, match=r"layers\[0\] \(Storing\): expected no gradient for a tensor taken out"):
        stack.layers[0].last.sum().backward()


def test_what_cannot_be_the_same_is_refused():
    stack = build("symmetric")
    stack.layers[2].register_full_backward_hook(lambda module, before, after: None)
    x = torch.randn(1, 4, 4, 4, dtype=D, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"layers\[2\] .*expected no backward hooks with create_graph=True"):
        torch.autograd.grad(stack(x)[0].sum(), x, create_graph=True)
    split = Wavelet()
    split.register_forward_hook(lambda module, inputs, output: output.relu())
    with pytest.raises(ValueError, match=r"layers\[0\] \(Wavelet\): expected hooks that do not change"):
        ReversibleStack([split])(x)
    with pytest.raises(ValueError, match=r"layers\[0\] \(Wavelet\): expected no hooks on a transition with exact=True"):
        ReversibleStack([split], exact=True, memory="plain")(x)


class Rescaled(SymmetricConv):
    """A subclass that changes a part of the forward pass, not forward itself."""

    def _apply_to(self, y, weight, bias):
        return super()._apply_to(y, 2 * weight, bias)


class Sharper(SymmetricGroupConv):
    def kernel(self, weight=None):
        return super().kernel(weight) * 2


def test_subclasses_that_override_a_part():
    patched = symmetric(D)
    patched._apply_to = lambda y, weight, bias: y.sin() * weight.sum()
    for layer, shape in (
        (Rescaled(4, dtype=D), (1, 4, 4, 4)),
        (Sharper(1, 4, dtype=D), (1, 1, 4, 4, 4)),
        (patched, (1, 4, 4, 4)),
    ):
        x = torch.randn(shape, dtype=D, requires_grad=True)
        stacks = [ReversibleStack([layer] * 2, h=0.5, memory=memory) for memory in ("reversible", "plain")]
        found = [torch.autograd.grad((s(x)[0] ** 2).sum(), [x, layer.weight]) for s in stacks]
        for a, b in zip(*found):
            assert torch.allclose(a, b, 1e-10, 1e-10)


@pytest.mark.parametrize("memory", ["plain", *MODES])
def test_operations_of_a_training_step_are_counted(memory):
    """By a tool that follows modules through the backward pass: it asks which function made their inputs."""
    torch.manual_seed(0)
    layers = [generic(D), Wavelet("haar", 2), LearnableOrthogonal().to(D), nn.Conv2d(64, 64, 3, padding=1, dtype=D)]
    stack, y = ReversibleStack(layers, h=0.3, memory=memory), torch.randn(1, 4, 8, 8, dtype=D, requires_grad=True)

    def gradients():
        return torch.autograd.grad(stack(y * 1)[0].square().sum(), [y, *stack.parameters()])

    expected = gradients()
    with FlopCounterMode(display=False) as counter:
        found = gradients()
    assert counter.get_total_flops() > 0
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)
