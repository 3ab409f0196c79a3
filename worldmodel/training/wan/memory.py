"""Bytes that a Wan stage needs on each GPU, by formula (the tests hold it against what is counted).

What autograd keeps of a layer was counted once, tensor by tensor, and is linear in the number of
tokens: so many bytes for each channel of the model and of the feed-forward layer. In bfloat16 the
residual stream and the norms stay fp32, which is why it is not half.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch

from worldmodel.training.wan.flops import judge_size, seen_frames
from worldmodel.training.wan.stage_config import (
    WanBidirectionalTraining,
    WanDmdTraining,
    WanStudentTraining,
    WanTraining,
)
from worldmodel.wan.lora import LoraConfig, LoraTransformer
from worldmodel.wan.model_config import WanConfig, WindowConfig
from worldmodel.wan.transformer_cost import parameters

WIDE = 4  # bytes of an fp32 number
ENDS = 7  # numbers for each channel of a token: outside the layers, and gradients on their way


@dataclass(frozen=True, slots=True)
class StageMemory:
    """Bytes of a stage on one GPU, part by part."""

    weights: int  # fp32 masters of what is trained, and what is frozen beside it
    gradients: int
    optimizer: int  # AdamW's two moments
    average: int
    others: int  # teacher, judge, critic's own state
    copies: int  # bfloat16 weights while they compute, sums of a rollout's gradients
    activations: int
    cache: int  # of a rollout

    @property
    def whole(self) -> int:
        """All bytes together."""
        states = self.weights + self.gradients + self.optimizer + self.average + self.others
        return states + self.copies + self.activations + self.cache


@dataclass(frozen=True, slots=True)
class ActivationBytes:
    """What autograd keeps of one layer: bytes for each token."""

    width: int  # for each channel of the model
    feed_forward: int  # for each channel of the feed-forward layer
    plain: int

    def of(self, size: WanConfig) -> int:
        """Bytes that a token of activations takes."""
        return self.width * size.width + self.feed_forward * size.feed_forward + self.plain


def kept(
    size: WanConfig, lora: LoraConfig | None, *, bfloat16: bool, packed: bool
) -> ActivationBytes:
    """Counted for all weights trained, and for LoRA on all linear layers of a block."""
    number = 2 if bfloat16 else WIDE
    width, plain = (68, 52) if bfloat16 else (94, 52)
    if size.cameras:
        width, plain = width + 5 * number, plain + 24
    if lora:
        width -= (20 if size.cameras else 18) if bfloat16 else (32 if size.cameras else 28)
        plain += 8 * lora.rank * number
    if packed:  # the block's own keys and values are kept together with the past's
        width -= 2 * number * (2 if size.cameras else 1)
    return ActivationBytes(width, 2 * number, plain)


def joined(size: WanConfig, window: WindowConfig, frames: int, *, bfloat16: bool) -> int:
    """Bytes of the keys and values that each block of a clip meets, put together, in one layer."""
    n, banks = window.block_frames, 2 if size.cameras else 1
    met = sum(seen_frames(window, now) + n for now in range(0, frames, n))
    return met * window.tokens(size) * 2 * banks * size.width * (2 if bfloat16 else WIDE)


def activations(
    config: WanTraining, tokens: int, keys: int, *, packed: bool, blocks: int = 1
) -> int:
    """Of a pass over `tokens` tokens that is differentiated, `keys` bytes of them in each layer.

    With checkpointing only the residual stream is kept, and a layer at a time is computed again;
    of a rollout's `blocks` that is a layer of one block.
    """
    size, bfloat16 = config.model.load_size(), config.loop.dtype != "float32"
    layer = tokens * kept(size, config.lora, bfloat16=bfloat16, packed=packed).of(size) + keys
    layer += 16 * size.text_tokens * size.width
    ends = tokens * ENDS * size.width * (2 if bfloat16 else WIDE)
    if not config.loop.checkpointing:
        return size.layers * layer + ends
    stream = size.layers * tokens * size.width * WIDE
    return stream + ends + layer // blocks


def memory(config: WanTraining, gpus: int = 1) -> StageMemory:
    """Of one of `gpus` GPUs, each of which computes batches of `clips.batch` clips."""
    size, lora = config.model.load_size(), config.lora
    all_of_it, learned = parameters(size), trained_parameters(size, lora)
    number = 2 if config.loop.dtype != "float32" else WIDE
    frozen = all_of_it if lora else 0
    others = 0
    if isinstance(config, WanStudentTraining):
        others = number * all_of_it
    if isinstance(config, WanDmdTraining):
        judge = parameters(judge_size(config.real_size, config))
        others = number * judge + WIDE * (frozen + 4 * learned)  # the critic trains as well
    copies = number * _converted(config, all_of_it if number == 2 else 0, gpus)
    # Frozen weights are shared with the average, unless each is split by itself.
    average = WIDE * (learned + (frozen if gpus > 1 else 0))
    most, cache = _passes(config)
    return StageMemory(
        weights=WIDE * (frozen + learned) // gpus,
        gradients=WIDE * learned // gpus,
        optimizer=2 * WIDE * learned // gpus,
        average=average // gpus,
        others=others // gpus,
        copies=copies,
        activations=config.clips.batch * most,
        cache=cache,
    )


def _converted(config: WanTraining, numbers: int, gpus: int) -> int:
    """How many weights are in bfloat16 at once, of `numbers` that are needed so.

    Split over GPUs, two blocks are gathered at a time, and with checkpointing a layer is converted
    when it is computed again. Else autograd keeps a copy of every trained weight, and of a frozen
    one each pass has its own. The gradients of a rollout's passes are summed before they are added
    to the others.
    """
    layers, clips = config.model.load_size().layers, config.clips
    rollout = isinstance(config, WanDmdTraining)
    learned = trained_parameters(config.model.load_size(), config.lora)
    sums = learned if rollout else 0
    if gpus > 1:
        return 2 * numbers // layers
    if config.loop.checkpointing:
        return numbers // layers + sums
    if config.lora is None:
        return numbers + sums
    passes = clips.frames // config.model.block_frames if rollout else 1
    return passes * numbers + sums


def _passes(config: WanTraining) -> tuple[int, int]:
    """Of one clip: bytes of the pass that keeps most, and of a rollout's cache."""
    size, window, frames = config.model.load_size(), config.model.window, config.clips.frames
    half, bfloat16 = frames * window.tokens(size), config.loop.dtype != "float32"
    keys = joined(size, window, frames, bfloat16=bfloat16)
    if isinstance(config, WanBidirectionalTraining):
        return activations(config, half, 0, packed=False), 0
    if not isinstance(config, WanDmdTraining):
        return activations(config, 2 * half, 2 * keys, packed=True), 0
    judged = activations(config, half, 0, packed=False)
    cache = 2 * size.banks * size.width * half * (2 if bfloat16 else WIDE)
    return max(played(config), judged), config.clips.batch * cache


def played(config: WanTraining) -> int:
    """Of a rollout that is differentiated, its cache apart."""
    size, window, frames = config.model.load_size(), config.model.window, config.clips.frames
    keys = joined(size, window, frames, bfloat16=config.loop.dtype != "float32")
    tokens, blocks = frames * window.tokens(size), frames // window.block_frames
    return activations(config, tokens, keys, packed=True, blocks=blocks)


@lru_cache(maxsize=16)
def trained_parameters(size: WanConfig, lora: LoraConfig | None) -> int:
    """How many numbers of the weights are trained."""
    if lora is None:
        return parameters(size)
    with torch.device("meta"):
        model = LoraTransformer(size, lora)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
