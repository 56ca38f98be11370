"""Training by Lightning's Trainer: tasks, settings, checkpoints that survive a kill, result files."""

from typing import TYPE_CHECKING, Any

from pdegcnn_examples.training.files import read_weights, write_file, write_json, write_weights
from pdegcnn_examples.training.processes import distributed, local_device, rank, world_size
from pdegcnn_examples.training.result_file import parameters, write_result
from pdegcnn_examples.training.settings import Settings
from pdegcnn_examples.training.task import LossAlone, Task, TrainingResult

if TYPE_CHECKING:
    from pdegcnn_examples.training.run import fit

__all__ = [
    "LossAlone",
    "Settings",
    "Task",
    "TrainingResult",
    "distributed",
    "fit",
    "local_device",
    "parameters",
    "rank",
    "read_weights",
    "world_size",
    "write_file",
    "write_json",
    "write_result",
    "write_weights",
]


def __getattr__(name: str) -> Any:
    """Import Lightning, which takes seconds, with ``fit`` only."""
    if name == "fit":
        from pdegcnn_examples.training.run import fit

        return fit
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
