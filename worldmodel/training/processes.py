"""Several processes train one model: `torchrun --nproc-per-node=N -m worldmodel train CONFIG`.

A step has `micro_batches` batches, whoever computes them; every process takes its part of them. So
the same config gives the same losses on one process and on many, but for the rounding of sums.

Weights, averages and optimizer states are split over the processes, block by block (FSDP2; ZeRO,
arXiv 1910.02054): before a block computes, its weights are gathered, and afterwards let go.
"""

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from worldmodel.config import ConfigError
from worldmodel.model.kv_cache import KVCache
from worldmodel.model.transformer import WorldTransformer
from worldmodel.wan.kv_cache import RollingCache
from worldmodel.wan.transformer import WanTransformer

Transformer = WorldTransformer | WanTransformer  # what is split and checkpointed, block by block


@dataclass(frozen=True, slots=True)
class Processes:
    """Who trains together; alone unless `torchrun` says otherwise."""

    device: torch.device
    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls, device: torch.device) -> "Processes":
        """Meet the others that `torchrun` has started; each takes a GPU of its own."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls(device)
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
        if not dist.is_initialized():
            # What hosts agree on goes over gloo: no GPU has to be waited for.
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        return cls(device, dist.get_rank(), count)

    @property
    def leads(self) -> bool:
        """Whether this process writes logs and pictures."""
        return self.rank == 0

    def share(self, batches: int) -> range:
        """The numbers of a step's batches that this process computes."""
        if batches % self.count:
            raise ConfigError(
                f"micro_batches ({batches}) must be a multiple of the {self.count} processes"
            )
        own = batches // self.count
        return range(self.rank * own, (self.rank + 1) * own)

    def any(self, flag: bool) -> bool:  # noqa: FBT001  # what is asked of every process
        """Whether it holds on any process; all must ask."""
        if self.count == 1:
            return flag
        said = torch.tensor(int(flag))
        dist.all_reduce(said, dist.ReduceOp.MAX)
        return bool(said)

    def mean(self, figures: dict[str, float]) -> dict[str, float]:
        """The mean over the processes of figures that all of them have."""
        if self.count == 1 or not figures:
            return figures
        values = torch.tensor(list(figures.values()), dtype=torch.float64)
        dist.all_reduce(values)
        return dict(zip(figures, (values / self.count).tolist(), strict=True))

    def wait(self) -> None:
        """Wait until every process has come to this line."""
        if self.count > 1:
            self.any(flag=False)

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """What the leader writes in this block, the others find there."""
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()

    def leave(self) -> None:
        """The end of working together."""
        if self.count > 1:
            dist.destroy_process_group()


def shard_models(stage: Any, *, bfloat16: bool) -> None:
    """Split every transformer of a stage over the processes, block by block.

    Master weights and sums of gradients stay fp32. Noise levels are inputs, and inputs keep their
    dtype: in bfloat16 the difference of two levels would be wrong by half.
    """
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bfloat16 else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
    )
    if not isinstance(stage.student, Transformer):
        raise ConfigError(
            f"the stage {stage.config.stage!r} trains no transformer and is small: run it as one "
            "process, without torchrun"
        )
    for model in vars(stage).values():  # all: one that a list forgot would lie whole everywhere
        if isinstance(model, Transformer):
            for block in model.blocks:
                fully_shard(block, mp_policy=policy)
            # Let go after every pass, as blocks are: an average that has answered is updated next.
            fully_shard(model, mp_policy=policy, reshard_after_forward=True)


def checkpoint_blocks(model: Transformer) -> None:
    """Keep no activations inside blocks, compute them again for the backward pass.

    Not where a cache of play supplies the past: it has moved on by then.
    """
    for block in model.blocks:
        block.forward = partial(_checkpointed, block)


def _checkpointed(block: nn.Module, *inputs: Any) -> Tensor:
    """A block's own forward; its context comes last."""
    forward = partial(type(block).forward, block)
    if isinstance(inputs[-1], KVCache | RollingCache) or not torch.is_grad_enabled():
        return forward(*inputs)
    found = checkpoint(forward, *inputs, use_reentrant=False)
    assert isinstance(found, Tensor)
    return found


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor that may be split."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be split, in its whole shape; every process must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def with_whole_average(stage: Any) -> Any:
    """The stage with an average of its own, whose weights are not split; every process must ask."""
    alone = copy.copy(stage)
    alone.ema = whole_copy(stage.ema)
    return alone


def whole_copy(model: Transformer) -> Transformer:
    """A model of its own with all the weights of one that may be split; every process must ask."""
    weights = {name: whole(tensor) for name, tensor in model.state_dict().items()}
    device = next(iter(weights.values())).device
    copied = model.alike().to(device)
    copied.load_state_dict(weights)
    return copied.requires_grad_(requires_grad=False).eval()
