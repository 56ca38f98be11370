"""Put the weights of a run of ``rotated_digits.py`` into the package: ``python tools/publish_weights.py RUN small``.

RUN is the run's folder, with ``weights.safetensors`` and ``result.json`` (or name the result file by ``--result``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from pdegcnn.models.pretrained import FOLDER
from pdegcnn_examples.networks.digits import LARGE, NETS, SMALL, SPACE
from pdegcnn_examples.training import read_weights, write_file, write_json

ARGUMENTS = {"small": SMALL, "large": LARGE}
LICENCE = (
    "weights: MIT, as the package. Training data: MNIST by Yann LeCun, Corinna Cortes and Christopher Burges, "
    "CC BY-SA 3.0 by its authors' page (http://yann.lecun.com/exdb/mnist/), each digit turned by an angle of its own; "
    "no data are in this file"
)


def probe() -> Tensor:
    """Images [4,1,28,28] without a file or random numbers: stripes in a disc."""
    rows, columns = torch.meshgrid(*(torch.linspace(-1, 1, 28, dtype=torch.float64),) * 2, indexing="ij")
    disc = (rows**2 + columns**2 < 0.5).double()
    stripes = [0.5 + 0.5 * torch.cos((k + 2) * (rows * (k % 2 + 1) - columns)) for k in range(4)]
    return torch.stack([s * disc for s in stripes])[:, None].float()


def main() -> None:
    """Check the weights, record what the network gives, write both files."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("run", type=Path)
    made.add_argument("name", choices=tuple(ARGUMENTS))
    made.add_argument("--result", type=Path, help="result file of the run (RUN/result.json)")
    made.add_argument("--to", type=Path, default=FOLDER, help=argparse.SUPPRESS)
    chosen = made.parse_args()
    try:
        state = read_weights(chosen.run / "weights.safetensors")
        result = json.loads((chosen.result or chosen.run / "result.json").read_text(encoding="utf-8"))
        if result["row"] != chosen.name:
            raise ValueError(f"expected a run of --net {chosen.name}, got {result['row']!r}")
        model = NETS[chosen.name]()
        model.load_state_dict(state)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise SystemExit(f"{chosen.run}: {error}") from error
    with torch.no_grad():
        logits = model.eval()(probe())
    content = save({name: value.contiguous() for name, value in state.items()})
    path = chosen.to / f"rotated_digits_{chosen.name}.safetensors"
    kept = ("figures", "parameters", "seed", "epochs", "seconds", "data", "command", "commit", "date", "machine")
    description = {
        "builder": "rotated_digits",
        "arguments": {"orientations": SPACE.orientations, **ARGUMENTS[chosen.name]},
        "licence": LICENCE,
        **{name: result[name] for name in kept},
        "sha256": hashlib.sha256(content).hexdigest(),
        "check": {"images": "probe() of tools/publish_weights.py", "logits": logits.double().tolist()},
    }
    write_file(path, lambda fresh: fresh.write_bytes(content))
    write_json(path.with_suffix(".json"), description)
    print(f"wrote {path} ({len(content):,} bytes) and {path.stem}.json")


if __name__ == "__main__":
    main()
