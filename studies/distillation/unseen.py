"""Generalisation: starts, routes and actions that the training never saw.

Four sets of clips of the real game, each answered by a few rows: stretches of the training data
themselves; explored stretches on unseen seeds; on the same seeds, actions held that the training
data is full of; and there again, combinations of keys and turning that never occur in it.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from torch import Tensor

from studies.distillation.figures import Estimate, mean_of
from studies.distillation.measure import played_actions
from studies.distillation.rows import Contender
from studies.distillation.yardstick import APART, PAST, Yardstick
from worldmodel.action import Action, ActionSpec
from worldmodel.config import UserError
from worldmodel.data_sources.doom import Doom
from worldmodel.evaluation.evaluation_streams import noise_seeds
from worldmodel.evaluation.reference_clips import Clips, game_of, play_on
from worldmodel.metrics import in_motion, psnr
from worldmodel.model.autoencoder import decode_latents, encode_frames
from worldmodel.rollout import roll_out
from worldmodel.storage.episodes import find_episodes, load_actions, load_episode
from worldmodel.system.progress import through

AFTER = 8  # frames that an action is held for
TURNS = (-16.0, -6.0, 0.0, 6.0, 16.0)  # degrees a frame: fast, slow, none
EDGES = (-11.0, -2.0, 2.0, 11.0)  # between them
COMMON = 0.01  # share of the training frames from which a combination is common

Combination = tuple[frozenset[str], int]  # keys, number of the turn


@dataclass(frozen=True, kw_only=True, slots=True)
class UnseenFigures:
    """One set of clips: dB at the first frame, where it is in motion, and at the eighth."""

    clips: int
    moving: int  # of them, those in motion at the first frame
    copy: Estimate  # of the last true frame, at the first
    limit: Estimate  # of the autoencoder, at the first
    rows: dict[str, tuple[Estimate, Estimate]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Generalisation:
    """All sets, and what was found unseen."""

    yardstick: str  # stamp of what it was measured with
    stamp: str  # changes with that and with the rows
    training_frames: int
    never: tuple[str, ...]  # combinations, in words
    possible: int  # combinations that there are
    sets: dict[str, UnseenFigures]


def combination_of(action: Action) -> Combination:
    """The keys, and which of the turns is meant."""
    return action.buttons, bisect_right(EDGES, action.mouse[0])


def count_combinations(folder: Path) -> Counter[Combination]:
    """How often each combination of keys and turning occurs in the recordings in a folder."""
    counts: Counter[Combination] = Counter()
    for path in through(find_episodes(folder), desc="actions of the training data"):
        counts.update(map(combination_of, load_actions(path)))
    return counts


def all_combinations(spec: ActionSpec) -> list[Combination]:
    """Every set of at most two keys with every turn; more keys than two repeat what two do."""
    sets = [frozenset(keys) for count in (0, 1, 2) for keys in combinations(spec.buttons, count)]
    return [(keys, turn) for keys in sets for turn in range(len(TURNS))]


def in_words(combination: Combination, spec: ActionSpec) -> str:
    """For people: "back + strafe left, 16° left"."""
    keys, turn = combination
    names = [name for button, name in zip(spec.buttons, spec.names, strict=True) if button in keys]
    side = "left" if TURNS[turn] < 0 else "right"
    turning = f", {abs(TURNS[turn]):g}° {side}" if TURNS[turn] else ""
    return (" + ".join(names) or "no key") + turning


def measure_unseen(
    contenders: Sequence[Contender], yardstick: Yardstick, data: Path, stamps: tuple[str, str]
) -> Generalisation:
    """All four sets; `data`: the training episodes; `stamps`: the yardstick's, this table's."""
    plan, spec = yardstick.plan, yardstick.world.actions
    counts, possible = count_combinations(data), all_combinations(spec)
    frames = sum(counts.values())
    never = [one for one in possible if not counts[one]]
    common = [one for one in possible if counts[one] >= COMMON * frames]
    if not never or not common:
        raise UserError(
            f"{data}: {len(never)} of {len(possible)} combinations of actions never occur and "
            f"{len(common)} are common; both kinds are needed"
        )
    seed = plan.seed + 5 * APART
    count = plan.unseen_clips
    sets = {"stretches of the training data": _seen_clips(data, yardstick, count)}
    sets["unseen seeds"] = yardstick.clips.cut(0, PAST + AFTER)
    with Doom(game_of(yardstick.world)) as game:
        sets["unseen seeds, common actions held"] = _held(game, spec, seed, common, count)
        sets["unseen seeds, never-seen actions held"] = _held(game, spec, seed, never, count)
    return Generalisation(
        yardstick=stamps[0],
        stamp=stamps[1],
        training_frames=frames,
        never=tuple(in_words(one, spec) for one in never),
        possible=len(possible),
        sets={name: _answers(contenders, yardstick, clips, name) for name, clips in sets.items()},
    )


def _held(
    game: Doom, spec: ActionSpec, seed: int, choices: Sequence[Combination], count: int
) -> Clips:
    """`count` clips: explore, then hold one of the combinations, each in its turn."""
    clips = []
    for number in range(count):
        # Spread over all of them, in whatever number they are.
        keys, turn = choices[number * len(choices) // count]
        action = Action(keys, (TURNS[turn], 0.0))
        past, after = play_on(game, spec, seed + number, PAST + 40, [action] * AFTER)
        clips.append(past.cut(40, PAST + 40).joined(after))
    return Clips.together(clips)


def _seen_clips(data: Path, yardstick: Yardstick, count: int) -> Clips:
    """Stretches from the middle of episodes spread over the training data."""
    paths = find_episodes(data)
    clips: list[Clips] = []
    for path in paths[:: max(1, len(paths) // (2 * count))]:
        episode = load_episode(path)
        first = (len(episode) - PAST - AFTER) // 2
        if first < 0 or len(clips) == count:
            continue
        part = slice(first, first + PAST + AFTER)
        spec = yardstick.world.actions
        clips.append(Clips.of(spec, episode.frames[part], episode.actions[part]))
    if len(clips) < 2:
        raise UserError(f"{data}: holds no two episodes of {PAST + AFTER} frames or more")
    return Clips.together(clips)


def _answers(
    contenders: Sequence[Contender], yardstick: Yardstick, clips: Clips, name: str
) -> UnseenFigures:
    """What the rows draw after each clip's past, against what the game showed."""
    decoder = yardstick.autoencoder
    latents, real = encode_frames(decoder, clips.frames), clips.frames
    past = latents[:, :PAST], clips.actions[:, :PAST]
    first, before = real[:, PAST], real[:, PAST - 1]
    moving = in_motion(first, before)
    if int(moving.sum()) < 2:
        raise UserError("hardly anything moves in these clips; give more with --unseen-clips")
    rows, seeds = {}, noise_seeds(len(real), "unseen", name)
    for one in contenders:
        actions = played_actions(one, clips.actions[:, PAST:])
        played = roll_out(one.model, one.sampler, past, actions, seeds=seeds)
        frames = decode_latents(decoder, played)
        rows[one.name] = (
            _mean(frames[moving, 0], first[moving]),
            _mean(frames[:, AFTER - 1], real[:, PAST + AFTER - 1]),
        )
    limit = decode_latents(decoder, latents[:, PAST : PAST + 1])[:, 0]
    return UnseenFigures(
        clips=len(real),
        moving=int(moving.sum()),
        copy=_mean(before[moving], first[moving]),
        limit=_mean(limit[moving], first[moving]),
        rows=rows,
    )


def _mean(frames: Tensor, real: Tensor) -> Estimate:
    return mean_of(psnr(frames, real).tolist())
