"""Can a network tell three seconds of a world from three seconds of its game?

Walks of the real game on seeds that training never saw, and the world's own frames for the same
beginnings and keys: every walk gives a pair. A small network sees stretches of both and says which
is which (a detector of generated images, arXiv 1912.11035, here with motion). A quarter of the
walks, both sides of them, is kept from its training; how often it is right there is the figure. 50
% would be a coin: nothing tells them apart. Each frame is seen beside its difference from the one
before, so that a picture that is too soft tells, and one that moves wrongly too.
"""

import time
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.config import UserError
from worldmodel.data_sources.doom import Doom
from worldmodel.evaluation.places import PlayedWalks, record_walks
from worldmodel.evaluation.reference_clips import Clips, check_state
from worldmodel.evaluation.subject import Subjects, opened
from worldmodel.model.autoencoder import decode_latents, to_tensor
from worldmodel.system.printable import tell, tell_json
from worldmodel.system.progress import through
from worldmodel.training.torch_streams import seed_default, torch_stream

SECONDS = 3.0
SEEN = 24  # frames of a clip that a step of training looks at
PAIRS = 6  # of a batch: as many of the game as of the world
HELD_OUT = 4  # every so many-th walk is kept from training
TOGETHER = 16  # walks that are rolled out side by side
WIDTHS = (24, 48, 64)


@dataclass(frozen=True, slots=True)
class Detected:
    """How often the detector is right on walks that it did not train on."""

    accuracy: float  # the mean of the two below
    game: float  # share of the game's clips that it takes for the game's
    world: float  # share of the world's clips that it takes for the world's
    clips: int  # that it was asked about, half of each
    trained_on: int  # clips
    steps: int
    minutes: float  # of training


class Detector(nn.Module):
    """Frames uint8 b f h w 3 -> logit b: above 0, the game's."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        incoming, stride = 6, 4
        for width in WIDTHS:
            size = stride + 1
            layers += [nn.Conv2d(incoming, width, size, stride, padding=size // 2), nn.ReLU()]
            incoming, stride = width, 2
        self.look = nn.Sequential(*layers)
        self.along = nn.Conv1d(2 * incoming, incoming, 5, padding=2)
        self.answer = nn.Linear(incoming, 1)

    def forward(self, frames: Tensor) -> Tensor:
        """Clips uint8 b f h w 3 -> logits b; above 0: taken for the game's."""
        batch = len(frames)
        pixels = to_tensor(frames.flatten(0, 1)).unflatten(0, (batch, -1))
        change = F.pad(pixels.diff(dim=1), (0, 0, 0, 0, 0, 0, 1, 0))
        seen = self.look(torch.cat((pixels, 4 * change), dim=2).flatten(0, 1))
        found = torch.cat((seen.mean(dim=(2, 3)), seen.amax(dim=(2, 3))), dim=1)
        found = found.unflatten(0, (batch, -1)).mT
        return self.answer(F.relu(self.along(found)).mean(dim=2))[:, 0]


def evaluate_detected(name: str | None, seed: int, walks: int, steps: int) -> Detected:
    """Measure a world; a `UserError` if it names no real game, or no walk would be unseen."""
    if walks < HELD_OUT:
        raise UserError(
            f"--detector-walks {walks}: every {HELD_OUT}th walk is kept from training; "
            f"expected at least {HELD_OUT}"
        )
    with opened(name) as (subjects, game):
        return measure_detected(subjects, game, seed, walks, steps)


def measure_detected(subjects: Subjects, game: Doom, seed: int, walks: int, steps: int) -> Detected:
    """Walks on seeds from `seed` on, then the detector's training and its answers."""
    check_state(subjects.file, game)
    real, made = paired_clips(subjects, game, seed, walks)
    return detect(real, made, steps)


def paired_clips(subjects: Subjects, game: Doom, seed: int, walks: int) -> tuple[Tensor, Tensor]:
    """Clips of the game and of the world for the same beginnings and keys: uint8 b f h w 3 each."""
    known = subjects.past
    frames = round(SECONDS * subjects.file.frames_per_second)
    real, made = [], []
    for first in through(range(0, walks, TOGETHER), desc="walks, in game and world"):
        count = min(TOGETHER, walks - first)
        clips, seed = record_walks(game, subjects, seed, count, known + frames)
        played = PlayedWalks(subjects, clips, known, f"walks from {first}")
        real.append(clips.frames[:, known:])
        made.append(_decoded(subjects, played, clips))
    return torch.cat(real), torch.cat(made)


def _decoded(subjects: Subjects, played: PlayedWalks, clips: Clips) -> Tensor:
    views = played.guide.views
    frames = [
        decode_latents(
            subjects.autoencoder,
            played.latents[walk][None],
            None if views is None else views[walk][None],
        )[0].cpu()
        for walk in range(len(clips.frames))
    ]
    return torch.stack(frames)


def detect(real: Tensor, made: Tensor, steps: int) -> Detected:
    """Train on pairs of clips uint8 b f h w 3 and ask about those that were kept from it."""
    held = torch.arange(len(real)) % HELD_OUT == HELD_OUT - 1
    began = time.monotonic()
    model = train_detector(real[~held], made[~held], steps)
    minutes = (time.monotonic() - began) / 60
    game = float((answers(model, real[held]) > 0).float().mean())
    world = float((answers(model, made[held]) <= 0).float().mean())
    asked, taught = 2 * int(held.sum()), 2 * int((~held).sum())
    return Detected((game + world) / 2, game, world, asked, taught, steps, round(minutes, 1))


def train_detector(real: Tensor, made: Tensor, steps: int) -> Detector:
    """Fit on clips uint8 b f h w 3 of the game, and of the world beside each."""
    seed_default("detector", "weights")
    model, generator = Detector(), torch_stream("cpu", "detector", "batches")
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    seen = min(SEEN, real.shape[1])
    which = torch.cat((torch.ones(PAIRS), torch.zeros(PAIRS)))
    for _ in through(range(steps), desc="detector"):
        index = torch.randint(len(real), (PAIRS,), generator=generator)
        first = int(torch.randint(real.shape[1] - seen + 1, (), generator=generator))
        batch = torch.cat([clips[index, first : first + seen] for clips in (real, made)])
        if bool(torch.randint(2, (), generator=generator)):
            batch = batch.flip(3)
        loss = F.binary_cross_entropy_with_logits(model(batch), which)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval().requires_grad_(requires_grad=False)


def answers(model: Detector, clips: Tensor) -> Tensor:
    """Logits b of clips uint8 b f h w 3."""
    return torch.cat([model(part) for part in clips.split(PAIRS)])


def print_detected(found: Detected, name: str) -> None:
    """For a person, then one line of JSON."""
    tell(
        f"world {name}: of {found.clips} unseen clips of {SECONDS:g} s, half of them the game's, "
        f"the detector names {100 * found.accuracy:.0f} % rightly (50 %: a coin)",
        f"  the game's {100 * found.game:.0f} %, the world's {100 * found.world:.0f} %; it trained "
        f"on {found.trained_on} others, {found.steps} steps in {found.minutes:.1f} minutes",
    )
    tell_json({"world": name, "detector": asdict(found)})
