"""Trainings of several processes: which of them watches, and whether the weights are shared out among them."""

from __future__ import annotations

import os

import torch
from torch import nn

from cm_client.errors import ClientError

_WRAPPERS = {"FSDPModule", "FullyShardedDataParallel"}
_WEIGHTS = {"DTensor", "FlatParameter"}


def is_helper_rank() -> bool:
    """Whether another process of this training is rank 0, the one that watches.

    Before the process group is there the launcher's RANK and WORLD_SIZE (torchrun, Lightning, Accelerate) tell it.
    """
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank() > 0
    rank, world = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE"))
    return rank.isdecimal() and world.isdecimal() and 0 < int(rank) < int(world)


def refuse_helper_rank() -> None:
    """For a process that found out its rank after `watch`.

    Raises:
        ClientError: it is not rank 0.
    """
    if is_helper_rank():
        raise ClientError("rank 0 is the one that is watched: call watch after torch.distributed.init_process_group")


def sharded_part(model: nn.Module) -> str | None:
    """The first module or parameter of ``model`` that FSDP, tensor parallelism or ZeRO-3 have cut up; None if whole.

    Nothing is imported to tell. Modules are asked, too: within a forward FSDP's parameters are whole for a while and
    look like any others.
    """
    for name, module in model.named_modules():
        if _WRAPPERS & {cls.__name__ for cls in type(module).__mro__}:
            return f"module {name!r}" if name else f"module {type(module).__name__}"
    for name, parameter in model.named_parameters():
        if _WEIGHTS & {cls.__name__ for cls in type(parameter).__mro__} or hasattr(parameter, "ds_tensor"):
            return f"parameter {name!r}"
    return None


def refuse_sharded(model: nn.Module) -> None:
    """No probe pass through weights of which each process holds a part.

    Such a pass is made of collectives: every process would have to enter it at the same step, with as many chunks, and
    none could leave early (out of memory, an error), or the training would hang.

    Raises:
        ClientError: the weights are sharded.
    """
    part = sharded_part(model)
    if part is not None:
        raise ClientError(
            f"the weights are sharded over processes ({part}), and a probe pass of one process would wait for the "
            "others for ever: use sample='stream', which needs no forward of its own"
        )
