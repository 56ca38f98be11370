"""Put the weights of a run into the package: ``python tools/publish_weights.py RUN NAME``.

NAME is ``small`` or ``large`` (of ``rotated_digits.py``) or ``drive`` (of ``vessels.py``). RUN is the run's folder,
with ``weights.safetensors`` and ``result.json`` (or name the result file by ``--result``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor, nn

from pdegcnn.models.planar import PUBLISHED
from pdegcnn.models.pretrained import FOLDER
from pdegcnn_examples.networks import digits, vessels
from pdegcnn_examples.training import read_weights, write_file, write_json

MNIST = (
    "weights: MIT, as the package. Training data: MNIST by Yann LeCun, Corinna Cortes and Christopher Burges, "
    "CC BY-SA 3.0 by its authors' page (http://yann.lecun.com/exdb/mnist/), each digit turned by its own angle; "
    "no data are in this file"
)
DRIVE = (
    "weights: MIT, as the package. Training data: photographs of the training half of DRIVE (Staal et al., Ridge-based "
    "vessel segmentation in color images of the retina, 2004), which its authors give for research after registration "
    "(https://drive.grand-challenge.org) and which must not be passed on; no photograph is in this file or in the "
    "package. Not a medical device: nobody has examined these weights for use on patients"
)


def probe() -> Tensor:
    """Images [4,1,28,28] without a file or random numbers: stripes in a disc."""
    rows, columns = torch.meshgrid(*(torch.linspace(-1, 1, 28, dtype=torch.float64),) * 2, indexing="ij")
    disc = (rows**2 + columns**2 < 0.5).double()
    stripes = [0.5 + 0.5 * torch.cos((k + 2) * (rows * (k % 2 + 1) - columns)) for k in range(4)]
    return torch.stack([s * disc for s in stripes])[:, None].float()


class Kind(NamedTuple):
    """Weights of one name: what they are of, and how a run of them is read."""

    builder: str
    row: str
    build: Callable[[], nn.Module]
    arguments: dict[str, Any]
    licence: str
    images: Callable[[], Tensor]


SOLVERS: dict[str, Any] = {name: value for name, value in PUBLISHED.items() if name != "diffusion"}
"""Weights keep the solvers that they were trained with, whatever the builder's become."""
KINDS = {
    "small": Kind("rotated_digits", "small", digits.NETS["small"], {**digits.SMALL, **SOLVERS}, MNIST, probe),
    "large": Kind("rotated_digits", "large", digits.NETS["large"], {**digits.LARGE, **SOLVERS}, MNIST, probe),
    "drive": Kind(
        "vessel_segmentation",
        "ship",
        vessels.shipped,
        vessels.SHIPPED,
        DRIVE,
        lambda: 2 * probe()[:2, :, ::2, ::2].expand(-1, 3, -1, -1) - 1,
    ),
}
KEPT = ("figures", "parameters", "seed", "epochs", "seconds", "data", "command", "commit", "date", "machine")


def read_run(chosen: argparse.Namespace, kind: Kind) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a run, in eval mode, and its result; a threshold becomes a logit of 0."""
    state = read_weights(chosen.run / "weights.safetensors")
    result = json.loads((chosen.result or chosen.run / "result.json").read_text(encoding="utf-8"))
    if result["row"] != kind.row:
        raise ValueError(f"expected a run of --net {kind.row}, got {result['row']!r}")
    model = kind.build()
    model.load_state_dict(state)
    if kind.builder == "vessel_segmentation":
        model = vessels.shifted(model, result["network"]["threshold"])
    return model.eval(), result


def main() -> None:
    """Check the weights, record what the network gives, write both files."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("run", type=Path)
    made.add_argument("name", choices=tuple(KINDS))
    made.add_argument("--result", type=Path, help="result file of the run (RUN/result.json)")
    made.add_argument("--to", type=Path, default=FOLDER, help=argparse.SUPPRESS)
    chosen = made.parse_args()
    kind = KINDS[chosen.name]
    try:
        model, result = read_run(chosen, kind)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise SystemExit(f"{chosen.run}: {error}") from error
    with torch.no_grad():
        logits = model(kind.images())
    content = save({name: value.contiguous() for name, value in model.state_dict().items()})
    path = chosen.to / f"{kind.builder}_{chosen.name}.safetensors"
    description = {
        "builder": kind.builder,
        "arguments": {"orientations": digits.SPACE.orientations, **kind.arguments},
        "licence": kind.licence,
        **{name: result[name] for name in KEPT},
        **({"network": result["network"]} if "network" in result else {}),
        "sha256": hashlib.sha256(content).hexdigest(),
        "check": {"images": f"{chosen.name} of tools/publish_weights.py", "logits": logits.double().tolist()},
    }
    write_file(path, lambda fresh: fresh.write_bytes(content))
    write_json(path.with_suffix(".json"), description)
    print(f"wrote {path} ({len(content):,} bytes) and {path.stem}.json")


if __name__ == "__main__":
    main()
