"""Training: one loop for every recipe, checkpoints that survive a kill, result files. Needs ``pdegcnn[recipes]``."""

from pdegcnn.recipes.checkpoint import read_weights, write_file, write_json, write_weights
from pdegcnn.recipes.loop import Outcome, Settings, Task, fit, own_device, processes, rank, world
from pdegcnn.recipes.report import parameters, write_result
from pdegcnn.recipes.tiles import tiled

__all__ = [
    "Outcome",
    "Settings",
    "Task",
    "fit",
    "own_device",
    "parameters",
    "processes",
    "rank",
    "read_weights",
    "tiled",
    "world",
    "write_file",
    "write_json",
    "write_result",
    "write_weights",
]
