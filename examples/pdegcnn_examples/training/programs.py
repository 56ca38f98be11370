"""Recipes of two programs: one trains a network, the other draws what trained networks give."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from pdegcnn_examples.training import recipe
from pdegcnn_examples.training.files import read_weights, write_file
from pdegcnn_examples.training.processes import local_device

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Program = Callable[[argparse.Namespace], None]


class Programs:
    """The command line of a recipe that begins with the name of a program.

    Args:
        doc: docstring of the recipe.
        name: name of the recipe, and of the folder in ``runs`` that it writes.
        nets: names of the networks that can be trained.
        data: what ``--data`` expects; no such option is shown if None.
        usual: the network that is trained if none is named; the first of ``nets`` if None.
    """

    def __init__(
        self, doc: str | None, name: str, nets: Collection[str], data: str | None = None, *, usual: str | None = None
    ) -> None:
        self.name = name
        self.parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
        self._programs = self.parser.add_subparsers(dest="program", required=True)
        shared = recipe.parser("", out=f"runs/{name}", data=data or argparse.SUPPRESS, add_help=False)
        self.train = self._programs.add_parser("train", parents=[shared])
        usual = usual or next(iter(nets))
        self.train.add_argument("--net", choices=tuple(nets), default=usual, help="network (%(default)s)")

    def add(self, program: str) -> argparse.ArgumentParser:
        """Return the command line of another program."""
        return self._programs.add_parser(program)

    def add_picture(self) -> argparse.ArgumentParser:
        """Return the command line of the program that draws."""
        made = self.add("picture")
        made.add_argument("--runs", type=Path, nargs="+", required=True, help=f"folders {self.name}-NET... of 'train'")
        made.add_argument("--picture", type=Path, required=True, help="PNG to write")
        made.add_argument("--smoke", action="store_true", help="little data")
        return made

    def run(self, **programs: Program) -> None:
        """Read the command line and run the chosen program."""
        chosen = self.parser.parse_args()
        programs[chosen.program](chosen)


def trained(
    runs: Collection[Path], nets: Collection[str], build: Callable[[str], nn.Module]
) -> Iterator[tuple[str, nn.Module]]:
    """Name and network of each folder that 'train' wrote, ready to evaluate; a wrong folder ends the program."""
    names = [next((word for word in run.name.split("-") if word in nets), None) for run in runs]
    for run, name in zip(runs, names):
        if name is None:
            raise SystemExit(f"--runs: expected folders called ...-NET, NET one of {', '.join(nets)}; got {run}")
    for run, name in zip(runs, names):
        model = build(str(name))
        try:
            model.load_state_dict(read_weights(run / "weights.safetensors"))
        except (FileNotFoundError, ValueError, RuntimeError) as error:
            raise SystemExit(f"--runs: expected weights.safetensors of 'train' in {run} ({error})") from error
        yield str(name), model.to(local_device()).eval()


def save_picture(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    write_file(path, lambda fresh: figure.savefig(fresh, format="png", dpi=110))
    print(f"wrote {path}")
