"""One process or several, as ``torchrun`` starts them: who this one is, and what all agree on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist


@contextlib.contextmanager
def distributed() -> Iterator[int]:
    """Join the other processes that ``torchrun`` started, if any, and leave them at the end; gives the rank."""
    if "RANK" not in os.environ or dist.is_initialized():
        yield rank()
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield rank()
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Return the number of this process, 0 if there is only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_device() -> torch.device:
    """Return where this process computes: on its GPU if there is one."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def any_process(*facts: bool) -> list[bool]:
    """Return for each fact whether it holds in any process; every process must call it."""
    if world_size() == 1:
        return list(facts)
    held = torch.tensor(facts, dtype=torch.int32, device=local_device())
    dist.all_reduce(held, dist.ReduceOp.MAX)
    return [bool(fact) for fact in held]


def of_first_process(value: float) -> float:
    """Return the number that the first process gave; every process must call it."""
    if world_size() == 1:
        return value
    sent = torch.tensor(value, dtype=torch.float64, device=local_device())
    dist.broadcast(sent, 0)
    return float(sent)


def mean_of_processes(value: torch.Tensor) -> float:
    """Return the mean of a number over all processes; every process must call it."""
    if world_size() > 1:
        value = value.clone()
        dist.all_reduce(value)
        value /= world_size()
    return float(value)
