"""Does a world stay itself: held against the real game over a minute, and against itself.

*Lockstep*: free rollout with the game's own keys. How near are the pictures, and how far apart the
places, around frame 16, 64, 256, 1 050?
*Return*: of the same rollouts, frames that the player sees from nearly the same place and direction
at least 10, 30, 60 s apart. How alike are they?
*Turn*: once around on the spot in 45 frames of 8 degrees. Does the first view come back?
*Mirror*: some frames of a walk, then the same keys reversed. Is frame N + i like frame N − i?

Each stands beside what the game itself gives, what the autoencoder can show (*limit*), and what any
other frame gives (*other*: later, or of another walk): a picture that never moves would be alike
everywhere.
All in dB of frames averaged down to 64 x 48, so that worlds of every size compare. Who names the
weights of a network that knows photographs gets its distance too, of whole frames in lockstep: a
picture that is right but a pixel off loses decibels and is hardly further away.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from worldmodel.action import IDLE, Action
from worldmodel.data_sources.doom import Doom
from worldmodel.data_sources.doom_state import SPEC
from worldmodel.data_sources.record import record_episode
from worldmodel.evaluation.evaluation_streams import player_of
from worldmodel.evaluation.played import play_out
from worldmodel.evaluation.reference_clips import Clips, check_state
from worldmodel.evaluation.subject import Subjects
from worldmodel.metrics import psnr, sharpness
from worldmodel.model.autoencoder import decode_latents, encode_frames
from worldmodel.model.motion import Roles
from worldmodel.training.perceptual import PerceptualDistance

HORIZONS = (16, 64, 256, 1050)
AROUND = 3  # frames before and after a horizon that count with it
SMALL = (64, 48)  # columns, rows to compare at
RETURNS = (10.0, 30.0, 60.0)  # seconds between two visits
NEAR, TURNED = 8.0, 4.0  # units of the map, degrees: the same view
PAIRS = 64  # of frames that are compared for each
TURN_FRAMES, TURN_DEGREES = 45, 8.0
MIRROR_FRAMES = 48
OPPOSITE = {"KeyW": "KeyS", "KeyS": "KeyW", "KeyA": "KeyD", "KeyD": "KeyA"}


@dataclass(frozen=True, slots=True)
class Horizon:
    """A rollout around one frame, beside the real game."""

    psnr: float  # dB at 64 x 48
    whole_psnr: float  # at the world's own size
    limit: float  # the autoencoder's, at 64 x 48
    off: float  # median distance of the places, in units of the map; no number without places
    off_worst: float  # of the worst tenth
    sharpness: float  # mean gradient, as a share of the game's
    perceptual: float = math.nan  # distance (`training.perceptual`), where its weights were named
    perceptual_limit: float = math.nan  # the autoencoder's


@dataclass(frozen=True, slots=True)
class Alike:
    """How alike frames are that should be the same, in dB at 64 x 48."""

    world: float
    game: float
    other: float  # the world's own frames that should not be


@dataclass(frozen=True, slots=True)
class Places:
    """Everything that was measured of how a world stays itself."""

    walks: int
    lockstep: dict[int, Horizon]
    returns: dict[float, Alike]
    turn: Alike
    mirror: Alike


class PlayedWalks:
    """What a world makes of real clips after their first `known` frames; frames when asked for."""

    def __init__(self, subjects: Subjects, clips: Clips, known: int, label: str) -> None:
        self.subjects, self.known = subjects, known
        played = play_out(subjects, subjects.student, clips, known, label, "places", label)
        self.latents, self.guide = played.latents, played.ahead
        self._frames: dict[tuple[int, int], Tensor] = {}

    def frame(self, walk: int, index: int) -> Tensor:
        """Frame `index` after the known ones: uint8 h w 3."""
        key = walk, index
        if key not in self._frames:
            views = self.guide.views
            seen = None if views is None else views[walk, index][None, None]
            latent = self.latents[walk, index][None, None]
            self._frames[key] = decode_latents(self.subjects.autoencoder, latent, seen)[0, 0].cpu()
        return self._frames[key]


def measure_places(
    subjects: Subjects,
    game: Doom,
    seed: int,
    walks: int,
    frames: int,
    distance: PerceptualDistance | None = None,
) -> Places:
    """Walks of `frames` frames on seeds from `seed` on; `frames` holds the longest horizon."""
    check_state(subjects.file, game)
    known = subjects.past
    clips, seed = record_walks(game, subjects, seed, walks, known + frames)
    played = PlayedWalks(subjects, clips, known, "lockstep")
    real = clips.cut(known, known + frames)
    rate = subjects.file.frames_per_second
    lockstep = {
        h: _horizon(subjects, played, real, h, distance) for h in HORIZONS if h + AROUND < frames
    }
    returns = {
        seconds: alike
        for seconds in RETURNS
        if (alike := _returns(subjects, played, real, round(seconds * rate))) is not None
    }
    turning = [Action(frozenset(), (TURN_DEGREES, 0.0))] * TURN_FRAMES
    turn, seed = _alike(subjects, game, seed, walks, turning, [(0, TURN_FRAMES)])
    return Places(walks, lockstep, returns, turn, _mirror(subjects, game, seed, walks))


def record_walks(
    game: Doom, subjects: Subjects, seed: int, walks: int, frames: int
) -> tuple[Clips, int]:
    """Real walks of so many frames, one a seed, and the next seed; those that end are left out."""
    kept: list[Clips] = []
    while len(kept) < walks:
        episode = record_episode(game, player_of, seed, frames)
        seed += 1
        if len(episode) == frames:
            kept.append(Clips.of_episode(subjects.file.actions, episode))
    return Clips.together(kept), seed


def _horizon(
    subjects: Subjects,
    played: PlayedWalks,
    real: Clips,
    horizon: int,
    distance: PerceptualDistance | None,
) -> Horizon:
    """Frames around `horizon`, counted from 1, of every walk."""
    stretch = range(horizon - 1 - AROUND, horizon + AROUND)
    walks = range(len(real.frames))
    made = torch.stack([played.frame(walk, f) for walk in walks for f in stretch])
    true = torch.stack([real.frames[walk, f] for walk in walks for f in stretch])
    off = torch.tensor([math.nan])
    motion, followed = subjects.motion, played.guide.states
    if motion is not None and followed is not None and real.states is not None:
        place = list(motion.roles.place)
        off = (followed - real.states)[:, horizon - 1, place].norm(dim=-1)
    limit = _limit(subjects, real, stretch)
    apart = [math.nan, math.nan]
    if distance is not None:
        apart = [float(distance.between(frames, true).mean()) for frames in (made, limit)]
    return Horizon(
        psnr=float(psnr(small(made), small(true)).mean()),
        whole_psnr=float(psnr(made, true).mean()),
        limit=float(psnr(small(limit), small(true)).mean()),
        off=float(off.median()),
        off_worst=float(off.quantile(0.9)),
        sharpness=float(sharpness(made).mean() / sharpness(true).mean()),
        perceptual=apart[0],
        perceptual_limit=apart[1],
    )


def _limit(subjects: Subjects, real: Clips, stretch: range) -> Tensor:
    """What the autoencoder shows of the real frames, from where they were really seen."""
    frames = real.frames[:, stretch.start : stretch.stop]
    latents = encode_frames(subjects.autoencoder, frames)
    seen = None if real.states is None else real.states[:, stretch.start : stretch.stop]
    views = subjects.views(seen)
    return decode_latents(subjects.autoencoder, latents, views).flatten(0, 1).cpu()


def _returns(subjects: Subjects, played: PlayedWalks, real: Clips, apart: int) -> Alike | None:
    """Pairs of frames at least `apart` frames apart that are seen from nearly the same view.

    Where the world has no places of its own, the game's say which frames should be alike.
    """
    motion, followed = subjects.motion, played.guide.states
    if real.states is None:
        return None
    places = None if motion is None or followed is None else motion.views(followed)
    given = real.states[..., _view_numbers(subjects)]
    ours = _pairs(given if places is None else places, apart)
    theirs = _pairs(given, apart)
    if not ours or not theirs:
        return None
    made = [(played.frame(w, i), played.frame(w, j)) for w, i, j in ours]
    true = [(real.frames[w, i], real.frames[w, j]) for w, i, j in theirs]
    other = [
        (played.frame(w, i), played.frame(w, (j + apart // 2) % played.latents.shape[1]))
        for w, i, j in ours
    ]
    return Alike(*map(_mean_psnr, (made, true, other)))


def _view_numbers(subjects: Subjects) -> list[int]:
    """Where x, y, the eye's height and the heading stand in the game's state."""
    return list(Roles.of(subjects.file.state or SPEC).view)


def _pairs(views: Tensor, apart: int) -> list[tuple[int, int, int]]:
    """Walk and two frames of nearly one view, at most one pair for each second frame."""
    found: list[tuple[int, int, int]] = []
    for walk, seen in enumerate(views):
        far = torch.cdist(seen[:, :2], seen[:, :2])
        turned = (seen[:, None, 3] - seen[None, :, 3] + 180).remainder(360) - 180
        alike = (far < NEAR) & (turned.abs() < TURNED)
        alike &= torch.ones_like(alike).triu(apart)
        for later in torch.nonzero(alike.any(dim=0))[:, 0].tolist():
            earlier = int(torch.nonzero(alike[:, later])[:, 0][0])
            found.append((walk, earlier, later))
    step = max(1, len(found) // PAIRS)
    return found[::step][:PAIRS]


def _mirror(subjects: Subjects, game: Doom, seed: int, walks: int) -> Alike:
    """A walk and its reverse: frame N + i beside frame N − i."""
    pairs = [(MIRROR_FRAMES - i, MIRROR_FRAMES + i) for i in range(4, MIRROR_FRAMES, 4)]
    alike, _ = _alike(subjects, game, seed, walks, None, pairs)
    return alike


def _alike(
    subjects: Subjects,
    game: Doom,
    seed: int,
    walks: int,
    actions: Sequence[Action] | None,
    pairs: Sequence[tuple[int, int]],
) -> tuple[Alike, int]:
    """Do something in game and world after a short walk; frames of each pair should be alike.

    And the next seed.
    """
    known = subjects.past
    kept: list[Clips] = []
    while len(kept) < walks:
        player = player_of(game, seed)
        shown, done, states = [game.reset(seed)], [IDLE], [game.state]
        seed += 1
        doing: list[Action] = []
        while len(shown) < known + 20 and not game.is_over:
            doing.append(player.act(game))
            _do(game, doing[-1], shown, done, states)
        # The momentum of the walk goes first, so that both begin at rest.
        for _ in range(known):
            _do(game, IDLE, shown, done, states)
        plan = list(actions) if actions else _there_and_back(doing[-20:])
        for action in plan:
            _do(game, action, shown, done, states)
        if not game.is_over:
            last = len(plan) + known
            spec = subjects.file.actions
            kept.append(Clips.of(spec, shown[-last:], done[-last:], states[-last:]))
    clips = Clips.together(kept)
    played = PlayedWalks(subjects, clips, known, "a whole turn" if actions else "there and back")
    real = clips.frames[:, known - 1 :]
    spots = [(w, *pair) for w in range(walks) for pair in pairs]

    def seen(walk: int, index: int) -> Tensor:
        return real[walk, 0] if index == 0 else played.frame(walk, index - 1)

    alike = Alike(
        _mean_psnr([(seen(w, i), seen(w, j)) for w, i, j in spots]),
        _mean_psnr([(real[w, i], real[w, j]) for w, i, j in spots]),
        _mean_psnr([(seen(w, i), seen((w + 1) % walks, j)) for w, i, j in spots]),
    )
    return alike, seed


def _do(
    game: Doom,
    action: Action,
    shown: list["np.ndarray[tuple[int, ...], np.dtype[np.uint8]]"],
    done: list[Action],
    states: list["np.ndarray[tuple[int, ...], np.dtype[np.float32]]"],
) -> None:
    shown.append(game.step(action))
    done.append(action)
    states.append(game.state)


def _there_and_back(steps: Sequence[Action]) -> list[Action]:
    """Actions and their opposites in reverse order, `MIRROR_FRAMES` of each."""
    there = [steps[i % len(steps)] for i in range(MIRROR_FRAMES)]
    back = [
        Action(frozenset(OPPOSITE.get(b, b) for b in a.buttons), (-a.mouse[0], -a.mouse[1]))
        for a in reversed(there)
    ]
    return [*there, *back]


def small(frames: Tensor) -> Tensor:
    """Frames uint8 b h w 3 averaged down to 64 x 48, those that are larger."""
    columns, rows = SMALL
    if frames.shape[1] <= rows:
        return frames
    resized = [cv2.resize(f.numpy(), SMALL, interpolation=cv2.INTER_AREA) for f in frames]
    assert resized[0].shape[:2] == (rows, columns)
    return torch.from_numpy(np.stack(resized))


def _mean_psnr(pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    one, other = (small(torch.stack(side)) for side in zip(*pairs, strict=True))
    return float(psnr(one, other).mean())
