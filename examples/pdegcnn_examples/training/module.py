"""A task and a network as a Lightning module: the loss of a step, the scores of an epoch, AdamW and its rate."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import asdict, fields, is_dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

from pdegcnn_examples.training.callbacks import Averages, Clock
from pdegcnn_examples.training.files import UnfitCheckpoint
from pdegcnn_examples.training.processes import mean_of_processes, rank, world_size
from pdegcnn_examples.training.result_file import commit
from pdegcnn_examples.training.settings import SCHEDULES, Settings, steps_of_epoch
from pdegcnn_examples.training.task import Task


class TaskModule(LightningModule):
    """Trains ``network`` on ``task``; everything else is the Trainer's.

    Augmentation and dropout are functions of seed, step and process, so a resumed run goes on to the bit.
    """

    averages: Averages | None

    def __init__(
        self, network: nn.Module, task: Task, settings: Settings, clock: Clock, about: Mapping[str, str]
    ) -> None:
        super().__init__()
        self.network, self.task, self.settings, self.clock = network, task, settings, clock
        self.about, self.averages = {**about, "checksum of the samples": str(fingerprint(task))}, None
        self.commits = [commit()]
        self.scores: dict[str, float] = {}
        self.sharded = settings.sharded and world_size() > 1

    def __deepcopy__(self, memo: dict[int, Any]) -> TaskModule:
        """Copy the network; samples and callbacks are shared. The average of the weights lives in such a copy."""
        made = self.__class__.__new__(self.__class__)
        memo |= {id(self): made, id(self.task): self.task, id(self.clock): self.clock}
        memo[id(self.averages)] = self.averages
        made.__dict__ = deepcopy(self.__getstate__(), memo)
        return made

    def configure_model(self) -> None:
        """Spread the weights over the processes, if there are several and the settings say so."""
        if self.sharded:
            assert self.device_mesh is not None
            # the root stays whole between forward and backward: one exchange a step, whatever the task calls
            fully_shard(self.network, mesh=self.device_mesh["data_parallel"], reshard_after_forward=False)

    def transfer_batch_to_device(self, batch: Tensor, device: torch.device, dataloader_idx: int) -> Tensor:
        """Leave the indices of samples on the CPU."""
        return batch

    def training_step(self, batch: Tensor, batch_idx: int) -> dict[str, Any]:
        """Loss of a batch, and its mean over the processes."""
        seed = seed_of(self.settings.seed, self.global_step, 1 + rank())
        torch.manual_seed(seed)
        loss = self.task.loss(self.network, batch, np.random.default_rng(seed))
        mean = mean_of_processes(loss.detach())
        if not math.isfinite(mean):
            raise FloatingPointError(f"loss: expected a finite number at step {self.global_step}, got {mean}")
        if self.trainer.progress_bar_callback is not None:
            self.log("loss", mean, prog_bar=True, logger=False)
        return {"loss": loss, "mean": mean, "rate": self.trainer.optimizers[0].param_groups[0]["lr"]}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Refuse a gradient that would spoil the weights; float16's scaler skips such steps by itself."""
        if self.settings.precision == "float16":
            return
        grads = {name: local(p.grad) for name, p in self.network.named_parameters() if p.grad is not None}
        if not grads:
            return
        sizes = torch.stack([grad.norm().double() for grad in grads.values()])
        if math.isfinite(mean_of_processes(sizes.sum())):
            return
        wrong = [name for name, size in zip(grads, sizes.tolist()) if not math.isfinite(size)]
        raise FloatingPointError(
            f"gradient: expected finite numbers at step {self.global_step}, got others in "
            f"{', '.join(wrong[:3]) or 'another process'}{' and more' if len(wrong) > 3 else ''}"
        )

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Scores of the averaged weights, or of the weights: every few epochs, and where the training ends."""
        epoch, settings = self.trainer.current_epoch + 1, self.settings
        if epoch % settings.evaluate_every and epoch < settings.epochs and self.clock.fraction < 1:
            return
        network = self.network if self.averages is None else self.averages.network
        if self.sharded:
            self.network.unshard()  # type: ignore[operator]
        found = self.task.evaluate(network.eval())
        if self.sharded:
            self.network.reshard()  # type: ignore[operator]
        if self.averages is not None:
            network.train()  # some layers hold more in eval mode than the average keeps
        if self.settings.patience is not None and self.settings.score not in found:
            raise ValueError(f"score: expected one of {', '.join(found) or 'no scores'}, got {self.settings.score!r}")
        self.scores = found
        self.log_dict(found, batch_size=1, logger=False)  # the row of the epoch is logged

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        groups = parameter_groups(self.network, self.settings.weight_decay)
        return torch.optim.AdamW(groups, self.settings.rate)

    def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
        """Set the rate of a step by the part of the training that is done; schedulers of torch have no clock."""
        rate = self.settings.rate * SCHEDULES[self.settings.schedule](min(1.0, self.clock.fraction))
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate

    def identity(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to be taken up: all but how often to save and log."""
        free = ("save_seconds", "tensorboard")
        chosen = {name: value for name, value in asdict(self.settings).items() if name not in free}
        parameters = sum(p.numel() for p in self.network.parameters())
        counted = {"samples": self.task.count, "processes": world_size(), "parameters": parameters}
        return json.loads(json.dumps(chosen | counted | self.about))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record what the checkpoint belongs to, and the code that made it."""
        checkpoint["identity"], checkpoint["commits"] = self.identity(), self.commits

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the checkpoint of another run."""
        mine, found = self.identity(), checkpoint.get("identity", {})
        if found != mine:
            other = {name: found.get(name) for name in mine if found.get(name) != mine[name]}
            raise UnfitCheckpoint(
                f"folder: {self.trainer.default_root_dir} is of a run with other settings ({other}); "
                "name another folder or delete it"
            )
        self.commits = list(dict.fromkeys([*checkpoint.get("commits", []), *self.commits]))


class Batches:
    """The indices that this process takes of each step; the order is a function of seed and epoch.

    It begins at the step where the training is, so that a resumed epoch goes on where it was.
    """

    def __init__(self, module: TaskModule) -> None:
        self.module, self.count = module, module.task.count
        self.steps = steps_of_epoch(self.count, module.settings.batch, world_size())

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Tensor]:
        settings, done = self.module.settings, self.module.global_step
        generator = torch.Generator().manual_seed(seed_of(settings.seed, done // self.steps))
        batches = torch.randperm(self.count, generator=generator).split(settings.batch)
        for chosen in batches[done % self.steps : self.steps]:
            yield chosen[: len(chosen) // world_size() * world_size()][rank() :: world_size()]

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the step says it all. By this method Lightning knows that an epoch can be resumed."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Do nothing."""


def fingerprint(task: Task) -> int:
    """Return a number that differs for tasks with other samples: of all tensors that a task holds, also in tuples."""
    found, held = 0, list(getattr(task, "__dict__", {}).values())
    while held:
        value = held.pop()
        if isinstance(value, tuple | list):
            held += value
        elif is_dataclass(value) and not isinstance(value, type):
            held += [getattr(value, part.name) for part in fields(value)]
        elif isinstance(value, Tensor) and not value.is_meta:
            values = value.detach().cpu().contiguous()
            found = zlib.crc32(f"{values.dtype} {tuple(values.shape)}".encode(), found)
            found = zlib.crc32(values.reshape(-1).view(torch.uint8).numpy().tobytes(), found)
    return found


def local(x: Tensor) -> Tensor:
    """Return what this process holds of a tensor that may be spread over several."""
    return x.to_local() if hasattr(x, "to_local") else x  # type: ignore[operator]


def network_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state of the network alone, out of that of its module."""
    return {name.removeprefix("network."): value for name, value in state.items()}


def parameter_groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weights that decay, and others: vectors (norms, biases, powers) and what PDE terms learn about geometry."""
    chosen = [p for p in model.parameters() if p.requires_grad]
    geometry = {id(p) for n, p in model.named_parameters() if ".terms." in f".{n}"}
    free = [p for p in chosen if p.ndim < 2 or id(p) in geometry]
    rest = [p for p in chosen if p.ndim >= 2 and id(p) not in geometry]
    groups = ({"params": rest, "weight_decay": decay}, {"params": free, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def seed_of(*numbers: int) -> int:
    """Return a seed that differs with every number."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
