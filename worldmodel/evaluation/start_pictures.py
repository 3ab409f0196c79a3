"""From a world's own starts: the world beside the real game, which was brought to the same places.

The game goes on from each start with its scripted player at the keys; the world does the same from
the start's clip. What is measured is what a player sees who presses F7.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.action import Action
from worldmodel.config import UserError
from worldmodel.data_sources.doom import Doom
from worldmodel.evaluation.evaluation_streams import player_of
from worldmodel.evaluation.played import play_out
from worldmodel.evaluation.reference_clips import Clips
from worldmodel.evaluation.subject import Subjects
from worldmodel.model.autoencoder import decode_latents
from worldmodel.reference.game import bring, is_same_place, psnr
from worldmodel.reference.side_by_side import save_side_by_side, views_of
from worldmodel.worlds.starts import Start, load_starts

FRAMES = 128
HORIZONS = (0, 1, 8, 32, 64, 128)
Frames = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class FromStart:
    """Both from one start; frame 0 is the start itself."""

    caption: str
    world: Frames  # f h w 3
    real: Frames
    exact: bool  # whether the game drew the start's last frame bit for bit

    @property
    def psnr(self) -> dict[int, float]:
        """dB at the frames of `HORIZONS` that there are."""
        shown = [h for h in HORIZONS if h < len(self.real)]
        return {h: psnr(self.world[h], self.real[h]) for h in shown}


def play_starts(folder: Path, subjects: Subjects, game: Doom, frames: int) -> list[FromStart]:
    """Every start that the game has a trajectory to."""
    starts = load_starts(folder, subjects.file, None)
    played = (_play(n, start, subjects, game, frames) for n, start in enumerate(starts))
    return [one for one in played if one is not None]


def _play(
    number: int, start: Start, subjects: Subjects, game: Doom, frames: int
) -> FromStart | None:
    if isinstance(start.trajectory, UserError):
        return None
    real, states = [bring(game, start.trajectory)], list[NDArray[np.float32]]()
    if not is_same_place(real[0], start.trajectory.frame):
        return None
    # Whoever played up to here had a stream of the episode's seed; who goes on has another.
    player, actions = player_of(game, start.trajectory.seed, "start", number), list[Action]()
    while len(real) <= frames:
        action = player.act(game)
        picture = game.step(action)
        if game.is_over:
            break
        real.append(picture)
        actions.append(action)
        states.append(game.state)
    spec, visible = subjects.file.actions, subjects.past
    clip = torch.from_numpy(np.ascontiguousarray(start.clip.frames[-visible:]))
    known = len(clip)
    done = [*start.clip.actions[-visible:], *actions]
    held = start.clip.state
    whole = Clips(
        torch.cat((clip, torch.from_numpy(np.stack(real[1:]))))[None],
        torch.from_numpy(spec.encode(done))[None],
        None
        if held is None
        else torch.from_numpy(np.concatenate((held.values[-visible:], states)))[None],
    )
    made = play_out(subjects, subjects.student, whole, known, start.caption, "start", number)
    shown = torch.cat([made.past[:, -1:].to(made.latents.dtype), made.latents], dim=1)
    seen = made.given.after(known - 1).views
    return FromStart(
        caption=start.caption,
        world=decode_latents(subjects.autoencoder, shown, seen)[0].cpu().numpy(),
        real=np.stack(real),
        exact=bool(np.array_equal(real[0], start.trajectory.frame)),
    )


def save_starts(played: list[FromStart], out: Path, frames_per_second: float) -> None:
    """A clip for each start, as F7 shows it."""
    out.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(played):
        path = out / f"start_{number}.mp4"
        path.unlink(missing_ok=True)
        views = views_of(one.world, one.real, frames_per_second)
        save_side_by_side(path, views, frames_per_second)
