"""Pictures: what is drawn where, and errors that name the argument."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from pdegcnn_examples.plots import networks as plot


def texts(figure):
    return [t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text")) if t.get_text()]


def test_orientation_channels(tmp_path):
    stages = {"before": torch.rand(8, 5, 6, requires_grad=True), "after": np.zeros((8, 5, 6))}
    figure = plot.orientation_channels(stages, title="Channels")
    assert len(figure.axes) == 16
    np.testing.assert_allclose(figure.axes[3].images[0].get_array(), stages["before"][3].detach())
    assert {"before", "after", "Channels", "0°", "45°", "315°"} <= set(texts(figure))
    figure.savefig(tmp_path / "channels.png")
    assert (tmp_path / "channels.png").stat().st_size > 1000


def test_few_columns_of_many_orientations():
    figure = plot.orientation_channels({"u": torch.rand(12, 4, 4)}, columns=4)
    assert [a.get_title() for a in figure.axes] == ["0°", "90°", "180°", "270°"]


def test_kernels_show_the_best_turn_and_the_box():
    cost = torch.full((4, 3, 5, 5), float("inf"))
    cost[:, 1, 2, 2], cost[:, 2, 0, 4] = 0, 1
    figure = plot.kernels({"dilation": cost, "erosion": 2 * cost}, used=3)
    assert len(figure.axes) == 9  # 2 rows of 4 and the colour bar
    shown = figure.axes[0].images[0].get_array()
    assert shown[2, 2] == 1 and shown[0, 4] == pytest.approx(np.exp(-1)) and np.count_nonzero(shown) == 2
    box = figure.axes[0].patches[-1]
    assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == (-1.5, -1.5, 3, 3)
    figure.canvas.draw()


def test_whole_numbers_show_what_floats_show():
    """Unsigned numbers have no minus sign, and costs get one."""
    cost = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
    shown = [plot.kernels({"k": k}).axes[0].images[0].get_array() for k in (cost, cost.astype(float))]
    np.testing.assert_allclose(*shown, rtol=1e-6)
    for wrong in (cost + 0j, torch.zeros(1, 1, 4, 4, dtype=torch.complex64), cost.astype(str)):
        with pytest.raises(TypeError, match=r"costs\['k'\]: expected an array of real numbers"):
            plot.kernels({"k": wrong})


def test_predictions_into_a_given_figure():
    chances = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    host = Figure(layout="constrained")
    part = host.subfigures(1, 1)
    images = torch.rand(3, 7, 7)
    result = plot.predictions(
        images, {"a:": chances, "b:": 1 - chances}, part, names=["cat", "dog"], truth=0, angles=[0, 45, 90]
    )
    assert result is part and len(host.subfigs[0].axes) == 3
    words = texts(host)
    assert words.count("cat  (90%)") == 1 and words.count("dog  (80%)") == 1 and "a:" in words and "45°" in words
    colours = {
        t.get_text(): t.get_color() for t in host.findobj(lambda a: hasattr(a, "get_color") and hasattr(a, "get_text"))
    }
    assert colours["cat  (90%)"] == "tab:green" and colours["dog  (80%)"] == "tab:red"
    host.canvas.draw()


def test_predictions_without_names():
    figure = plot.predictions(np.zeros((1, 4, 4)), np.array([[0.25, 0.75]]))
    assert "1  (75%)" in texts(figure)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.orientation_channels({}), "stages: expected at least one"),
        (lambda: plot.orientation_channels({"u": torch.rand(4, 4)}), r"stages\['u'\]: expected .*\[Or,H,W\].*\(4, 4\)"),
        (lambda: plot.orientation_channels({"u": torch.rand(0, 4, 4)}), "non-empty"),
        (lambda: plot.orientation_channels({"u": torch.rand(4, 3, 3), "v": torch.rand(8, 3, 3)}), "equal first axes"),
        (lambda: plot.orientation_channels({"u": torch.rand(4, 3, 3)}, columns=0), "columns: expected a positive int"),
        (lambda: plot.kernels({"k": torch.rand(4, 3, 3)}), r"costs\['k'\]: expected .*\[Or,KO,KH,KW\]"),
        (lambda: plot.predictions(torch.rand(2, 3, 3), torch.rand(3, 10)), "probabilities: expected 2 rows"),
        (lambda: plot.predictions(torch.rand(2, 3, 3), torch.rand(2, 3), names=["a"]), "names: expected 3"),
        (lambda: plot.predictions(torch.rand(2, 3, 3), torch.rand(2, 3), angles=[0]), "angles: expected 2"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
