"""``pdegcnn vessels``: from photographs of the retina to pictures of their vessels."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor, nn

ABOUT = """vessels in photographs of the retina
Writes, for each photograph, NAME_mask.png (vessels white), NAME_probability.png and NAME_overlay.png, of the size of
the photograph. The camera, the size and the format do not matter; the field of view is found. What is there already
stays.

The weights were trained on 17 photographs of healthy and diseased retinas of one camera. No use in medicine was tested.
"""
KINDS = ("mask", "probability", "overlay")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".ppm", ".bmp", ".gif", ".webp")
KEY = "pdegcnn vessels"
"""Name of the text in written PNG files that says what they are of."""


class Job(NamedTuple):
    """A photograph and the beginning of the names of its pictures."""

    photograph: Path
    name: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("photographs", nargs="+", type=Path, metavar="PHOTO", help="a photograph, or a folder of them")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the pictures; made if absent"
    )
    parser.add_argument("--threshold", type=float, default=0.5, help="probability of a vessel (%(default)s)")
    parser.add_argument("--diameter", type=float, help="of the field of view in pixels (default: found)")
    parser.add_argument("--angle", type=float, default=45.0, help="degrees that the camera sees (%(default)s)")
    parser.add_argument("--device", help="such as cpu or cuda (default: cuda where there is one)")
    parser.add_argument("--weights", type=Path, help="file of a vessel_segmentation network, written by pdegcnn.save")
    parser.add_argument("--overwrite", action="store_true", help="also write pictures that are there already")


def run(chosen: argparse.Namespace) -> int:
    """Segment all photographs; name those that fail and go on with the others."""
    for name, low, high in (("threshold", 0.0, 1.0), ("diameter", 16.0, 1e5), ("angle", 5.0, 180.0)):
        value = getattr(chosen, name)
        if value is not None and not low <= value <= high:
            chosen.parser.error(f"--{name}: expected a number from {low:g} to {high:g}, got {value:g}")
    paths, problems = find(chosen.photographs)
    for problem in problems:
        _say(problem)
    if not paths:
        return 1
    model, about = load(chosen)
    try:
        chosen.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        chosen.parser.error(f"--out: expected a folder that can be written, got {chosen.out} ({error.strerror})")
    jobs = named(paths)
    inputs = {path.resolve() for path in paths}
    failed = 0
    for number, job in enumerate(jobs, 1):
        label = f"[{number}/{len(jobs)}] {job.photograph}"
        bar = Bar(label)
        try:
            found = segment_one(model, job, chosen, about, inputs, bar)
        except (ValueError, TypeError, OSError, RuntimeError) as error:  # one bad photograph must not stop the others
            bar.clear()
            failed += 1
            _say(str(error) if str(job.photograph) in str(error) else f"{job.photograph}: {error}")
        else:  # a failure here is that of the terminal, not of the photograph
            print(f"{label}: {found}", flush=True)
    if failed:
        _say(f"{failed} of {len(jobs)} photographs could not be segmented")
    return int(bool(failed or problems))


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def find(places: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Find the photographs that are meant, each once, and what is wrong with the places.

    Of a folder, files with the suffix of an image count, except hidden ones and those named as pictures of others.
    Pictures that this command has written do not count.
    """
    from pdegcnn._images import listed

    paths: list[Path] = []
    problems: list[str] = []
    for place in places:
        try:
            if place.is_dir():
                inside = listed(place, SUFFIXES)
                stems = {p.stem for p in inside} | {p.name for p in inside}
                named_so = {p for p in inside for k in KINDS if p.stem.removesuffix(f"_{k}") in stems - {p.stem}}
                inside = [p for p in inside if p not in named_so and _source(p) is None]
                if not inside:
                    problems.append(f"{place}: expected photographs ({', '.join(SUFFIXES)}), but the folder has none")
                paths += inside
            elif not place.is_file():
                problems.append(f"{place}: expected a photograph or a folder of them, but it is not there")
            elif _source(place) is not None:
                problems.append(f"{place}: expected a photograph, got a picture that this command has written")
            else:
                paths.append(place)
        except OSError as error:
            problems.append(f"{place}: expected a photograph or a folder that can be read ({error.strerror or error})")
    once = {path.resolve(): path for path in reversed(paths)}
    return [path for path in dict.fromkeys(paths) if once[path.resolve()] is path], problems


def named(paths: Sequence[Path]) -> list[Job]:
    """Give each photograph its own name: the stem; else with the suffix; else with folders before it."""
    depth = max(len(path.resolve().parts) for path in paths)
    forms: list[Callable[[Path], str]] = [lambda p: p.stem, lambda p: p.name]
    forms += [lambda p, n=n: "_".join(p.resolve().parts[-n:]).replace(os.sep, "") for n in range(2, depth + 1)]
    names: dict[Path, str] = {}
    taken: set[str] = set()
    left = list(paths)
    for form in forms:
        count = Counter(form(path).lower() for path in left)
        for path in left:
            if count[form(path).lower()] == 1 and form(path).lower() not in taken:
                names[path] = form(path)
        taken |= {names[path].lower() for path in left if path in names}
        left = [path for path in left if path not in names]
    for number, path in enumerate(left, 1):
        names[path] = f"{path.name}_{number}"
    return [Job(path, names[path]) for path in paths]


def load(chosen: argparse.Namespace) -> tuple[nn.Module, str]:
    """Load the network onto its device and return it with its description; end the program where that fails."""
    import torch
    from torch.nn import Sequential, Sigmoid

    from pdegcnn import models

    name = "--device"
    try:
        device = torch.device(chosen.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
        name = "--weights"
        if chosen.weights is None:
            return models.vessel_segmentation(pretrained="drive", device=device), "drive"
        from pdegcnn.io import load as load_file

        model = load_file(chosen.weights).to(device).eval()
        if getattr(getattr(model, "recipe", None), "builder", None) != "vessel_segmentation":
            raise ValueError(f"expected a network of vessel_segmentation, got another in {chosen.weights}")
        assert isinstance(model, Sequential)
        if not isinstance(model[-1], Sigmoid):
            model.append(Sigmoid().eval())
        return model, hashlib.sha256(chosen.weights.read_bytes()).hexdigest()
    except ImportError as error:
        raise SystemExit(f"{error}") from error
    except (ValueError, TypeError, OSError, RuntimeError, AssertionError) as error:
        chosen.parser.error(f"{name}: {error}")
        raise  # not reached: the parser ends the program


def segment_one(model: nn.Module, job: Job, chosen: argparse.Namespace, about: str, inputs: set[Path], bar: Bar) -> str:
    """Write the pictures of one photograph that are not there yet; says in a line what was found."""
    from pdegcnn import vessels

    start = time.monotonic()
    targets = {kind: chosen.out / f"{job.name}_{kind}.png" for kind in KINDS}
    for target in targets.values():
        if target.resolve() in inputs:
            raise ValueError(f"{target} is itself a photograph to be segmented: expected another --out")
    digest = hashlib.sha256(job.photograph.read_bytes()).hexdigest()
    source = f"{digest} {about} {chosen.threshold} {chosen.diameter} {chosen.angle}"
    there: list[str] = []
    if not chosen.overwrite:
        there = [kind for kind, target in targets.items() if target.exists()]
        for kind in there:
            if _source(targets[kind]) != source:
                text = (
                    "is there already, of another photograph or other options: expected another --out, or --overwrite"
                )
                raise ValueError(f"{targets[kind]} {text}")
        if len(there) == len(KINDS):
            return "is done already"
    image = vessels.read(job.photograph)
    found = vessels.segment(
        model, image, threshold=chosen.threshold, diameter=chosen.diameter, angle=chosen.angle, progress=bar.show
    )
    pictures = {
        "mask": found.mask.float(),
        "probability": found.probability,
        "overlay": vessels.overlay(image, found.mask),
    }
    for kind, values in pictures.items():
        if kind not in there:
            write_picture(targets[kind], values, source)
    bar.clear()
    share = float(found.mask.sum() / found.field.sum().clamp_min(1))
    size = f"{image.shape[2]} x {image.shape[1]} pixels, field of view {found.diameter:.0f} across"
    return f"{size}, vessels in {share:.1%} of it, {time.monotonic() - start:.1f} s"


def write_picture(path: Path, values: Tensor, source: str) -> None:
    """Write [H,W] or [3,H,W] in [0,1] as PNG, whole or not at all, with a text that says what it is of."""
    import torch
    from PIL import Image, PngImagePlugin

    from pdegcnn._files import write_file

    pixels = (values * 255).round().to(torch.uint8)
    picture = Image.fromarray((pixels.movedim(0, -1) if pixels.ndim == 3 else pixels).contiguous().numpy())
    text = PngImagePlugin.PngInfo()
    text.add_text(KEY, source)
    write_file(path, lambda fresh: picture.save(fresh, format="PNG", pnginfo=text))


def _source(path: Path) -> str | None:
    """Return what a written picture is of; None for other files."""
    try:
        from PIL import Image
    except ImportError:  # reading the photographs will say so
        return None
    try:
        with Image.open(path) as picture:
            return picture.info.get(KEY)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


class Bar:
    """Progress on the standard error, in one line, where that is a terminal; nothing in a log."""

    def __init__(self, label: str, stream: Any = None) -> None:
        self.label, self.stream = label, stream or sys.stderr
        self.shown = self.stream.isatty()
        self.show(0.0)

    def show(self, share: float) -> None:
        """Show the share that is done."""
        if self.shown:
            filled = round(20 * share)
            self.stream.write(f"\r{self.label} {'#' * filled}{'.' * (20 - filled)} {share:4.0%}")
            self.stream.flush()

    def clear(self) -> None:
        """Leave an empty line."""
        if self.shown:
            self.stream.write("\r" + " " * (len(self.label) + 30) + "\r")
            self.stream.flush()
