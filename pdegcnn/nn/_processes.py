"""Support of normalisations by torch's tools for batch norm, and sums over the processes of a training."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage] - torch's tools look for this class

from pdegcnn._typing import Function

MISSING = {"num_features": 1, "affine": False, "track_running_stats": False}
"""What a normalisation without such attributes says to tools that ask for them; anything else is None."""
ASKED = (*MISSING, "eps", "momentum", "weight", "bias", "running_mean", "running_var", "num_batches_tracked")


class StandIn(_BatchNorm):
    """Stand-in for a normalisation, found by torch's tools that search for batch norms; it is never called.

    Its attributes are those of its owner, so ``update_bn``, ``replace_all_batch_norm_modules_`` and loops over batch
    norms act on the owner. Put into evaluation mode, it keeps the owner from taking statistics.
    """

    def __init__(self, owner: nn.Module) -> None:
        nn.Module.__init__(self)
        self.__dict__["owner"] = owner

    def __getattr__(self, name: str) -> Any:
        if name not in ASKED:
            return super().__getattr__(name)
        return getattr(self.__dict__["owner"], name, MISSING.get(name))

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ASKED:
            setattr(self.__dict__["owner"], name, value)
        else:
            super().__setattr__(name, value)

    def reset_running_stats(self) -> None:
        """Reset those of the owner."""
        self.__dict__["owner"].reset_running_stats()

    def reset_parameters(self) -> None:
        """Do nothing: the owner has its own."""

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        nn.Module._load_from_state_dict(  # pyright: ignore[reportUnknownMemberType] - torch gives it no types
            self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def extra_repr(self) -> str:
        """Leave the description to the owner."""
        return ""


class Normalisation(nn.Module):
    """A module that normalises by statistics, of all processes after ``SyncBatchNorm.convert_sync_batchnorm``.

    That function would replace a subclass of torch's batch norm by one without areas and spins. Here it
    finds a :class:`StandIn` and replaces it by a layer that holds the group of processes.
    """

    stand_in: StandIn
    synchronised: bool = False
    process_group: dist.ProcessGroup | None = None

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Add a module; a ``SyncBatchNorm`` in the place of the stand-in is the wish to synchronise."""
        if name == "stand_in" and isinstance(module, nn.SyncBatchNorm):
            self.synchronised, self.process_group = True, module.process_group
        else:
            super().add_module(name, module)

    def _takes_statistics(self) -> bool:
        return self.training and self.stand_in.training

    def _processes(self) -> dist.ProcessGroup | None:
        """Return the group of processes to take statistics over; None if this one is alone."""
        if not self.synchronised or not dist.is_available():
            return None
        group = self.process_group
        if group is None and dist.is_initialized():
            group = dist.group.WORLD
        return group if group is not None and group.size() > 1 else None


def sum_over(group: dist.ProcessGroup, value: Tensor) -> Tensor:
    """Return the sum of ``value`` over the processes of ``group``, differentiable any number of times."""
    return _Sum.apply(value, group)


class _Sum(Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        value = value.contiguous().clone()
        dist.all_reduce(value, group=group)  # pyright: ignore[reportUnknownMemberType] - torch: group without type
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return sum_over(ctx.group, grads[0]), None
