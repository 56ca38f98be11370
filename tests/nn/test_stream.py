"""Large signals in evaluation mode are taken a few channels at a time, to the same result."""

import pytest
import torch

import pdegcnn as pg
from pdegcnn.nn import layer as layer_module
from tests.helpers import signal

OPTIONS = [
    {"learn_alpha": True},
    {"batch_norm": False, "splitting": "strang", "metric": "spd"},
    {"convection": "spectral", "boundary": "periodic", "kernel_size": "auto"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("space", [pg.R2(), pg.SE2(4)], ids=str)
def test_streaming_changes_nothing(space, options, monkeypatch):
    net = pg.nn.PDELayer(space, 5, 3, **{"kernel_size": 3} | options, dtype=torch.float64)
    u = signal(space, (6, 7), channels=5, batch=2)
    net(u)  # running statistics that differ from the initial ones
    net.eval()
    calls = []
    inner = net._stream
    monkeypatch.setattr(net, "_stream", lambda u: (calls.append(u), inner(u))[1])
    with torch.no_grad():
        whole = net(u)
        assert not calls
        monkeypatch.setattr(layer_module, "STREAM_ABOVE", u.numel() - 1)
        assert torch.allclose(net(u), whole, atol=1e-12) and len(calls) == 1
        net.train()(u)
    net.eval()(u)
    assert len(calls) == 1, "with gradients or in training the layer must not stream"
