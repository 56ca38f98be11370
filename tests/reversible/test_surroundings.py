"""What surrounds a stack: hooks that keep inputs, random numbers of Python and NumPy, threads, freezing."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest
import torch
from torch import nn

import pdegcnn as pg
from pdegcnn.models.hyperbolic import HyperbolicNetwork

Stack = pg.reversible.ReversibleStack


def smooth() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.Tanh()).double()


def image() -> torch.Tensor:
    return torch.randn(2, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("mode", ["no_grad", "fixed input", "gradients"])
@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_inputs_that_hooks_keep_stay_as_they_were(mode, damping):
    found = {}
    for memory in ("plain", "reversible"):
        torch.manual_seed(0)
        stack, kept = Stack([smooth() for _ in range(4)], h=0.5, memory=memory, damping=damping), []
        for layer in stack.layers:
            layer.register_forward_hook(
                lambda m, args, out, kept=kept: kept.append((args[0], args[0].detach().clone()))
            )
        with torch.set_grad_enabled(mode != "no_grad"):
            y = stack(image().requires_grad_(mode == "gradients"))[0]
        if mode != "no_grad":
            y.square().sum().backward()
        assert len(kept) == (8 if memory == "reversible" and mode != "no_grad" else 4)
        for tensor, then in kept:
            torch.testing.assert_close(tensor.detach(), then, rtol=0, atol=0)
        found[memory] = [then for _, then in kept[:4]]
    torch.testing.assert_close(found["reversible"], found["plain"])


class Dropped(nn.Module):
    """Stochastic depth, by a generator that is not torch's."""

    def __init__(self, draw) -> None:
        super().__init__()
        self.layer, self.draw = smooth(), draw

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) if self.draw() < 0.5 else torch.zeros_like(x)


@pytest.mark.parametrize(("draw", "seed"), [(random.random, random.seed), (np.random.rand, np.random.seed)])
def test_random_numbers_of_python_and_numpy_are_replayed(draw, seed):
    found = []
    for memory in ("plain", "reversible"):
        torch.manual_seed(0)
        stack = Stack([Dropped(draw) for _ in range(8)], h=0.7, memory=memory)
        seed(1)
        x = image().requires_grad_()
        y = stack(x)[0]
        drawn = draw()
        y.square().sum().backward()
        found.append((x.grad, torch.tensor([drawn, draw()])))
    torch.testing.assert_close(found[1], found[0])


def test_other_generators_of_numpy_are_replayed():
    usual = np.random.get_bit_generator()
    np.random.set_bit_generator(np.random.PCG64(0))
    try:
        test_random_numbers_of_python_and_numpy_are_replayed(np.random.rand, reseed)
    finally:
        np.random.set_bit_generator(usual)


def reseed(seed: int) -> None:
    np.random.set_bit_generator(np.random.PCG64(seed))


def test_a_layer_that_draws_such_numbers_has_no_inverse():
    stack = Stack([Dropped(np.random.rand)])
    with pytest.raises(RuntimeError, match="without randomness"):
        stack.inverse(image(), image())


def test_parameters_may_be_frozen_before_the_backward_pass():
    grads = []
    for memory in ("plain", "reversible"):
        torch.manual_seed(0)
        stack, x = Stack([smooth(), smooth()], memory=memory), image().requires_grad_()
        y = stack(x)[0]
        stack.requires_grad_(False)
        y.square().sum().backward()
        grads.append(x.grad)
    torch.testing.assert_close(grads[1], grads[0])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_layers_that_change_their_input_are_refused_in_every_mode(mode, dtype):
    stack = Stack([nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(2, 2, 1))]).to(dtype)
    with mode(), pytest.raises(ValueError, match="does not change its input"):
        stack(image().to(dtype))


@pytest.mark.parametrize("hook", [False, True])
def test_threads_that_train_one_stack_lose_no_gradient(hook):
    torch.manual_seed(0)
    stack, x = Stack([smooth() for _ in range(4)], h=0.5), image()
    held = list(stack.parameters())
    if hook:  # then the stack computes with other parameters of the same values
        held[0].register_hook(lambda grad: grad)
    expected = torch.autograd.grad(stack(x)[0].square().sum(), held)
    found, start = [], threading.Barrier(4)

    def work() -> None:
        start.wait()
        for _ in range(20):
            found.append(torch.autograd.grad(stack(x)[0].square().sum(), held, allow_unused=True))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80 and all(grad is not None for grads in found for grad in grads)
    torch.testing.assert_close(found, [expected] * 80)
    assert [id(p) for p in stack.parameters()] == [id(p) for p in held]


def test_a_lift_with_a_stride_has_the_same_size_without_gradients():
    space = pg.SE2(4)
    stack = Stack([pg.reversible.SymmetricGroupConv(4, 4)], h=0.3)
    lift, project = pg.nn.Lift(space, 3, 4, 5, stride=2), pg.nn.Project(space, mode="max")
    net = HyperbolicNetwork(lift, stack, project, 2, 2, dense=False).eval()
    x = torch.randn(1, 3, 128, 256)
    with torch.no_grad():
        quiet = net(x)
    torch.testing.assert_close(quiet, net(x))
