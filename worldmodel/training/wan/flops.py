"""Floating-point operations of the Wan stages, by formula: counting them would take a step's time.

A multiply-add counts as two; what is elementwise is left out. Attention is counted apart, because
its backward pass computes the scores once more: 2.5 times its forward pass, other products twice.
With checkpointing, what is trained is passed forward once more.
"""

from dataclasses import dataclass
from pathlib import Path

from worldmodel.config import load_config
from worldmodel.training.wan.stage_config import (
    WanBidirectionalTraining,
    WanDmdTraining,
    WanOdeTraining,
    WanStudentTraining,
    WanTeacherTraining,
    WanTraining,
)
from worldmodel.wan.lora import LoraConfig
from worldmodel.wan.model_config import WanConfig, WindowConfig

ATTENTION_BACKWARD = 2.5  # of a kernel that keeps no scores


@dataclass(frozen=True, slots=True)
class Pass:
    """Operations of one forward pass over one clip."""

    products: float  # with weights
    attention: float

    def __add__(self, other: "Pass") -> "Pass":
        return Pass(self.products + other.products, self.attention + other.attention)

    def __mul__(self, times: float) -> "Pass":
        return Pass(times * self.products, times * self.attention)

    @property
    def forward(self) -> float:
        """Operations of the forward pass."""
        return self.products + self.attention

    def backward(
        self, lora: LoraConfig | None = None, attention: float = ATTENTION_BACKWARD
    ) -> float:
        """Of its gradient; frozen weights need none of their own."""
        return (1 if lora else 2) * self.products + attention * self.attention


def one_pass(size: WanConfig, frames: int, tokens: int, pairs: float) -> Pass:
    """A pass over `tokens` tokens of `frames` frames, where `pairs` of them look at each other."""
    d, text = size.width, size.read_tokens
    layer = tokens * (6 * d * d + 2 * d * size.feed_forward) + 2 * text * d * d
    scores = 2 * d * (pairs + tokens * text)
    if size.cameras:
        layer += tokens * (d * d + 4 * 4 * d)
        scores += 2 * d * pairs
    inputs = (size.latent_channels + size.condition_channels) * size.patch**2
    width = size.picture.width if size.picture else 0
    reading = width * (width + d) if size.picture else size.text_width * d + d * d
    ends = tokens * (inputs + size.token_width) * d + text * reading
    level = frames * (size.time_features * d + 7 * d * d)
    products, seen = action_products(size, frames, tokens, pairs)
    products += size.layers * layer + ends + level
    return Pass(2.0 * products, 2.0 * (size.layers * scores + seen))


def action_products(size: WanConfig, frames: int, tokens: int, pairs: float) -> tuple[float, float]:
    """Multiply-adds of the action modules: with weights, and of attention.

    Their window is taken for that of the frames: what is attended to there is next to nothing.
    """
    if (actions := size.actions) is None:
        return 0.0, 0.0
    d, width, keys = size.width, actions.width, actions.key_width
    told = actions.rows * (actions.keys * keys + keys * keys) + actions.rows * keys * 2 * width
    each, branches = 2 * d * width, 1
    if actions.mouse:
        each += (d + actions.mouse * actions.rows) * width + 4 * width**2 + width * d
        branches = 2
    layers, attended = len(actions.layers), pairs * frames / tokens
    return layers * (frames * told + tokens * each), layers * branches * 2 * width * attended


def packed_pass(size: WanConfig, window: WindowConfig, frames: int) -> Pass:
    """A clip once clean and once noisy."""
    p, n = window.tokens(size), window.block_frames
    pairs = sum(2 * n * p * p * (seen_frames(window, now) + n) for now in range(0, frames, n))
    return one_pass(size, 2 * frames, 2 * frames * p, pairs)


def whole_pass(size: WanConfig, window: WindowConfig, frames: int) -> Pass:
    """A clip whose frames all see each other."""
    tokens = frames * window.tokens(size)
    return one_pass(size, frames, tokens, tokens * tokens)


def rollout_pass(size: WanConfig, window: WindowConfig, frames: int) -> Pass:
    """One pass over every block of a rollout."""
    p, n = window.tokens(size), window.block_frames
    total = Pass(0.0, 0.0)
    for now in range(0, frames, n):
        pairs = n * p * p * (seen_frames(window, now) + n)
        total += one_pass(size, n, n * p, pairs)
    return total


def seen_frames(window: WindowConfig, now: int) -> int:
    """Earlier frames that the block at `now` sees."""
    return min(now, window.slots - window.block_frames)


def trained(config: WanTraining, passes: Pass) -> float:
    """Forward and backward of what is trained."""
    again = passes.forward if config.loop.checkpointing else 0.0
    return passes.forward + again + passes.backward(config.lora)


def teacher_flops(config: WanTeacherTraining | WanOdeTraining) -> int:
    """Of a batch of teacher forcing."""
    passes = packed_pass(config.model.load_size(), config.model.window, config.clips.frames)
    return int(config.clips.batch * trained(config, passes))


def whole_flops(config: WanBidirectionalTraining) -> int:
    """Of a batch of whole clips."""
    passes = whole_pass(config.model.load_size(), config.model.window, config.clips.frames)
    return int(config.clips.batch * trained(config, passes))


def student_flops(config: WanStudentTraining) -> int:
    """Of a batch of consistency distillation: the teacher, the average, the student."""
    passes = packed_pass(config.model.load_size(), config.model.window, config.clips.frames)
    answers = 2 if config.guidance == 1.0 else 3
    return int(config.clips.batch * (answers * passes.forward + trained(config, passes)))


def dmd_flops(config: WanDmdTraining, judge: WanConfig) -> int:
    """Of a batch of distribution matching, both players' mean, over all exit steps alike."""
    size, window, frames = config.model.load_size(), config.model.window, config.clips.frames
    play, whole = rollout_pass(size, window, frames), whole_pass(size, window, frames)
    steps = (1 + config.sampler.steps) / 2
    rollout = (steps + 1) * play.forward  # and the clean pass, which the last block does without
    critic = rollout + trained(config, whole)
    judged = whole.forward + 2 * whole_pass(judge, window, frames).forward
    student = rollout - play.forward + trained(config, play) + judged
    updates = config.critic_updates
    return int(config.clips.batch * (updates * critic + student) / (updates + 1))


def stage_flops(config: WanTraining) -> int:
    """Of a batch of whichever stage."""
    if isinstance(config, WanDmdTraining):
        return dmd_flops(config, judge_size(config.real_size, config))
    if isinstance(config, WanStudentTraining):
        return student_flops(config)
    if isinstance(config, WanBidirectionalTraining):
        return whole_flops(config)
    assert isinstance(config, WanTeacherTraining | WanOdeTraining)
    return teacher_flops(config)


def judge_size(path: Path | None, config: WanTraining) -> WanConfig:
    """The judge's sizes: the student's where nothing else is said."""
    return load_config(WanConfig, path) if path else config.model.load_size()
