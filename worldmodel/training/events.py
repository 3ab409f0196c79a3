"""The stage `events`: a network that says what happens to the numbers of the state.

Which changes occur is read from the data (`event_bins`). Then, with bins q of number n given the
past and the numbers before n:

    L = mean over n of  −log p(q_n | past, action, q_1 … q_(n−1))

The latents have noise added, for those of play are not exact. What is measured: `event_figures`.

Letters of its own: i numbers that are drawn, q bins.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel.action import ActionSpec
from worldmodel.config import ConfigError, require_positive, to_toml
from worldmodel.model.context import Device
from worldmodel.model.events import Events, Recent
from worldmodel.model.state_configs import EventsConfig
from worldmodel.storage.files import write_atomically
from worldmodel.training.event_bins import bins_of, set_bins
from worldmodel.training.event_figures import (
    measure_calibration,
    measure_numbers,
    measure_transitions,
)
from worldmodel.training.event_play import EventsPlay
from worldmodel.training.object_transitions import set_transitions, transition_rates, transitions_of
from worldmodel.training.row_files import ReadSpeed
from worldmodel.training.runs import STATE_SPEC
from worldmodel.training.stage import LoopConfig
from worldmodel.training.state_episodes import check_actions
from worldmodel.training.torch_streams import host_stream, seed_default


@dataclass(frozen=True, kw_only=True, slots=True)
class EventsTraining:
    """Everything that the stage `events` reads from its TOML file."""

    stage: Literal["events"]
    data: Path
    heldout: Path
    autoencoder: Path  # whose latents are what is seen
    actions: ActionSpec
    model: EventsConfig
    loop: LoopConfig
    batch: int = 256
    latent_noise: float = 0.3
    latent_dropout: float = 0.1  # share of latents that are hidden

    def __post_init__(self) -> None:
        require_positive(self, "batch")
        if self.loop.dtype == "bfloat16":
            raise ConfigError(f"[loop] dtype = {self.loop.dtype!r}: numbers need float32")
        check_actions(self.actions, self.model.buttons, self.model.mouse_degrees)
        if not 0 <= self.latent_dropout < 1 or self.latent_noise < 0:
            raise ConfigError(
                f"latent_dropout ({self.latent_dropout}) must be in [0, 1), latent_noise "
                f"({self.latent_noise}) at least 0"
            )


class EventsStage:
    """Holds the play and the network; gives the loop its loss."""

    def __init__(self, config: EventsTraining, folder: Path, device: Device = "cpu") -> None:
        del device  # it is small, and draws on the CPU in play
        self.config, self.reading = config, ReadSpeed()
        how = (config.autoencoder, config.actions, config.model)
        self.play = EventsPlay.load(config.data, folder.parent / "latents.safetensors", *how)
        unseen = folder.parent / "unseen_latents.safetensors"
        self.heldout = EventsPlay.load(config.heldout, unseen, *how)
        data = self.play.states
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / STATE_SPEC, to_toml(data.spec).encode())
        seed_default(config.loop.seed, config.stage, "weights")
        self.student = Events(config.model, data.spec)
        if not len(self.play.begins):
            raise ConfigError(f"{config.data}: no episode has {config.model.frames + 1} frames")
        set_bins(self.student, data)
        self.transitions: Tensor | None = None
        if self.student.objects is not None:
            set_transitions(self.student.objects, data.states, data.starts)
            self.transitions = transitions_of(self.student.objects, data.states, data.starts)
        self.bins = bins_of(self.student, data)
        self.heldout_bins = bins_of(self.student, self.heldout.states)
        self.ema = copy.deepcopy(self.student).requires_grad_(requires_grad=False)

    def judge(self, figures: Mapping[str, float | None]) -> tuple[str, dict[str, float], bool]:
        """Whether it expects what happens as often as it happens, on unseen play."""
        numbers = {k: float(v) for k, v in figures.items() if v is not None}
        gained, transitions = (
            numbers.get("gained", math.nan),
            numbers.get("transitions_gained", math.nan),
        )
        sentence = f"says {100 * gained:.0f} % of what rates alone leave open, on unseen frames"
        if self.student.objects is not None:
            sentence += f", {100 * transitions:.0f} % of it where objects go"
        if not gained > 0 or transitions <= 0:
            return f"FAILED: {sentence}: no better than the rates of what happens", numbers, True
        return f"good: {sentence}", numbers, False

    def compile(self) -> None:
        """Nothing: the network is small."""

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross entropy of what happened in the frames after a batch of pasts."""
        del step
        host = host_stream(generator, "moments")
        chosen = torch.randint(len(self.play.begins), (self.config.batch,), generator=host)
        index = self.play.begins[chosen]
        recent = self.play.recent(index, self.config.model, self.reading)
        latents = recent.latents
        latents = latents + self.config.latent_noise * torch.randn(latents.shape, generator=host)
        kept = torch.rand(latents.shape, generator=host) >= self.config.latent_dropout
        recent = Recent(recent.states, recent.actions, latents * kept)
        actions = self.play.states.actions[index + 1]
        around = self.student.around(recent, actions)
        hidden = self.student.hidden(recent, actions, around)
        losses = self.student.loss(hidden, self.bins[index + 1])
        figures = {"bits": losses.detach().sum() / math.log(2)}
        if self.student.objects is None or self.transitions is None or around is None:
            return losses.sum(), figures
        logits = self.student.objects.logits(around, hidden, recent.states)
        transitions = self.transitions[index + 1]
        error = F.cross_entropy(logits.flatten(0, 1), transitions.flatten(), ignore_index=-1)
        objects = error * transitions.shape[1]
        return losses.sum() + objects, figures | {"way_bits": objects.detach() / math.log(2)}

    @torch.no_grad()
    def sample(self, folder: Path, step: int) -> dict[str, float]:
        """Calibration and errors on unseen play."""
        del folder, step
        figures = measure_calibration(self.ema, self.heldout, self.heldout_bins, self.bins)
        if self.ema.objects is not None and self.transitions is not None:
            rates = transition_rates(self.ema.objects, self.play.states.states, self.transitions)
            figures |= measure_transitions(self.ema, self.heldout, rates)
        return figures | measure_numbers(self.ema, self.heldout)
