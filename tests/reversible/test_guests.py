"""What users put into a stack: hooks, computed weights, subclasses, compiled and checkpointed layers, nested stacks."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from pdegcnn.reversible import ReversibleStack, SymmetricConv, SymmetricGroupConv, Wavelet
from pdegcnn.reversible.contracts import custom_vjp

D = torch.float64


class Overridden(SymmetricConv):
    """Another forward, with the adjoint of the parent."""

    def forward(self, y):
        return 2 * super().forward(y).tanh()


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, dtype=D)

    def forward(self, y):
        return checkpoint(lambda z: torch.tanh(self.conv(z)), y, use_reentrant=False)


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.stack = ReversibleStack([symmetric() for _ in range(2)], h=0.6)

    def forward(self, y):
        return self.stack(y)[1]


def symmetric():
    return SymmetricConv(4, activation="tanh", init_norm=2.0, dtype=D)


def hooked():
    layer = symmetric()
    layer.register_forward_hook(lambda module, inputs, output: 2 * output)
    return layer


def watched():
    layer = symmetric()
    layer.register_full_backward_hook(lambda module, before, after: (3 * before[0],))
    return layer


def patched():
    layer = symmetric()
    layer.forward = lambda y: y.sin() * layer.weight.sum()
    return layer


def pair(make):
    torch.manual_seed(0)
    stack = ReversibleStack([make() for _ in range(3)], h=0.5)
    return stack, twin(stack)


def twin(stack):
    plain = copy.deepcopy(stack)
    for module in plain.modules():
        if isinstance(module, ReversibleStack):
            module.memory = "plain"
    return plain


def image(seed=1, channels=4):
    return torch.randn(2, channels, 6, 6, dtype=D, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def loss(model, y, v=None):
    y, v = model(y, v)
    return (y**3).sum() + (v**2 * y).sum()


def gradients(model, x, between=None):
    value = loss(model, x)
    if between is not None:
        between(model)
    return torch.autograd.grad(value, [x, *model.parameters()])


def agree(a, b, tolerance=1e-11):
    assert len(a) == len(b)
    for x, y in zip(a, b):
        assert (x - y).abs().max() <= tolerance * (1 + y.abs().max())


GUESTS = {
    "overridden forward": lambda: Overridden(4, dtype=D),
    "forward hook": hooked,
    "backward hook": watched,
    "weight norm": lambda: parametrizations.weight_norm(symmetric()),
    "spectral norm": lambda: parametrizations.spectral_norm(symmetric()),
    "checkpoint": Checkpointed,
    "identity": nn.Identity,
    "nested": Inner,
    "compiled": lambda: torch.compile(nn.Sequential(nn.Conv2d(4, 4, 1, dtype=D), nn.Tanh()), backend="aot_eager"),
}


@pytest.mark.parametrize("name", GUESTS)
def test_gradients_are_those_of_plain_autograd(name):
    torch.manual_seed(0)
    layers = [GUESTS[name]() for _ in range(3)]
    found = []
    for memory in ("reversible", "plain"):
        torch.manual_seed(1)
        state = copy.deepcopy([layer.state_dict() for layer in layers])
        found.append(gradients(ReversibleStack(layers, h=0.5, memory=memory), image()))
        for layer, old in zip(layers, state):
            layer.load_state_dict(old)
    agree(*found)
    torch._dynamo.reset()


def test_the_adjoint_by_hand_serves_only_what_it_belongs_to():
    others = ("overridden forward", "forward hook", "backward hook", "weight norm", "spectral norm", "checkpoint")
    assert not any(custom_vjp(GUESTS[name]()) for name in others) and custom_vjp(patched()) is None
    assert custom_vjp(symmetric()) and custom_vjp(SymmetricGroupConv(1, 4))

    class Own(Overridden):
        def value_and_vjp(self, y, g, values, wanted):
            return super().value_and_vjp(y, g, values, wanted)

    assert custom_vjp(Own(4))


def test_group_layer_by_hand():
    torch.manual_seed(0)
    stack = ReversibleStack([SymmetricGroupConv(2, 4, 3, rank, "tanh", 3.0, dtype=D) for rank in (1, 2, 3)], h=0.5)
    for layer in stack.layers:
        nn.init.normal_(layer.bias)
    x = torch.randn(1, 2, 4, 5, 5, dtype=D, requires_grad=True)
    agree(gradients(stack, x), gradients(twin(stack), x))
    stack.layers[1].bias.requires_grad_(False)
    wanted = [x, *(p for p in stack.parameters() if p.requires_grad)]
    agree(
        *(torch.autograd.grad(loss(m, x), wanted) for m in (stack, ReversibleStack(stack.layers, 0.5, memory="plain")))
    )
    assert torch.linalg.matrix_norm(stack.layers[0].kernel().flatten(1), 2) <= stack.layers[0].norm_bound()
    stack.layers[0].cap_norm(0.25)
    assert abs(stack.layers[0].norm_bound() - 0.25) <= 1e-12


def test_the_mode_of_the_forward_pass_is_replayed():
    stack, plain = pair(lambda: nn.Sequential(nn.Conv2d(4, 4, 1, dtype=D), nn.Dropout(0.5), nn.BatchNorm2d(4, dtype=D)))
    found = []
    for model in (stack, plain):
        torch.manual_seed(3)
        found.append(gradients(model, image(), between=lambda m: m.eval()))
        assert not any(module.training for module in model.modules())
    agree(*found)


def test_one_tensor_as_both_states():
    stack, plain = pair(symmetric)
    found = []
    for model in (stack, plain):
        x = image()
        (first,) = torch.autograd.grad(loss(model, x, x), x, create_graph=True)
        found.append([first, *torch.autograd.grad(first.square().sum(), [x, *model.parameters()])])
    agree(*found, 1e-10)


def test_only_one_of_the_outputs_is_used():
    for layers in ([symmetric(), symmetric()], [symmetric(), Wavelet(dims=2)]):
        stack = ReversibleStack(layers, h=0.5)
        for place in (0, 1):
            x = image()
            found = []
            for model in (stack, ReversibleStack(layers, h=0.5, memory="plain")):
                value = (model(x)[place] ** 2).sum()
                found.append(torch.autograd.grad(value, [x, layers[0].weight], create_graph=True))
                found[-1] += torch.autograd.grad(sum((g**2).sum() for g in found[-1]), x)
            agree(*found)


def test_nested_stacks_twice_and_under_torch_func():
    stack, plain = pair(Inner)
    results = []
    for model in (stack, plain):
        x = image()
        params = {n: p.detach() for n, p in model.named_parameters()}

        def value(params, x, model=model):
            y, v = functional_call(model, params, (x,))
            return (y**3).sum() + (v**2).sum()

        first = torch.autograd.grad(loss(model, x), [x, *model.parameters()], create_graph=True)
        second = torch.autograd.grad(sum((g**2).sum() for g in first), x)
        each = vmap(grad(value), (None, 0))(params, x.detach()[:, None])
        results.append([*second, *grad(value)(params, x.detach()).values(), *each.values()])
    agree(*results, 1e-10)


def test_training_through_torch_compile():
    stack, _ = pair(symmetric)
    x = image()

    def net(x):
        return stack(torch.sin(x))[0].cos().sum()

    found = [torch.autograd.grad(f(x), [x, *stack.parameters()]) for f in (torch.compile(net, backend="eager"), net)]
    torch._dynamo.reset()
    agree(*found, 0.0)


def test_changing_a_parameter_or_an_output_before_backward_raises():
    stack, _ = pair(symmetric)
    value = loss(stack, image())
    with torch.no_grad():
        stack.layers[0].weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()
    y, v = stack(image())
    with pytest.raises(RuntimeError, match="inplace operation|modified inplace"):
        y.mul_(2)
        (y.sum() + v.sum()).backward()


def test_autocast_keeps_half_precision_states_in_float32():
    torch.manual_seed(0)
    stack = ReversibleStack([nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Tanh()) for _ in range(60)], h=0.2)
    found = []
    for model in (stack, twin(stack)):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y, v = model(image().bfloat16())
            assert y.dtype == v.dtype == torch.float32
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad((y**2).sum(), list(model.parameters()))]))
    assert (found[0] - found[1]).norm() <= 0.02 * found[1].norm()  # bfloat16 layers see states that differ by 1e-7


def test_lazy_layers_raise():
    with pytest.raises(ValueError, match=r"layers\[1\]: expected initialised parameters"):
        ReversibleStack([nn.Tanh(), nn.LazyConv2d(4, 1)])(image().float())
