"""What a world makes of real clips after their first frames, with its own numbers.

Where a world's numbers are predicted, they follow from what it draws itself, frame by frame; so
every player has numbers of his own. Elsewhere conditions are known beforehand (`conditions`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from worldmodel.evaluation.conditions import Guide, condition, guide, recent_of
from worldmodel.evaluation.evaluation_streams import noise_seeds
from worldmodel.evaluation.reference_clips import Clips
from worldmodel.evaluation.subject import Subject, Subjects
from worldmodel.model.autoencoder import encode_frames, encode_views
from worldmodel.model.state_configs import kind_of
from worldmodel.random_streams import Key
from worldmodel.rollout import Rollout, roll_out
from worldmodel.state_spec import StateSpec
from worldmodel.system.progress import through
from worldmodel.worlds.happenings import Happenings

Off = dict[int, dict[str, float]]  # by frame and number


@dataclass(frozen=True, slots=True)
class Played:
    """Free play after known frames."""

    past: Tensor  # b f c h w, latents of the known frames
    latents: Tensor  # b g c h w
    states: Tensor | None  # b g v, where numbers are predicted
    given: Guide  # of all frames

    @property
    def ahead(self) -> Guide:
        """The guide of the frames that were played."""
        return self.given.after(self.past.shape[1])


@torch.inference_mode()
def play_out(
    subjects: Subjects,
    subject: Subject,
    clips: Clips,
    known: int,
    label: str,
    *key: Key,
) -> Played:
    """Play on from the first `known` frames with the clips' own actions; `key` is of the noise."""
    events, given = subjects.events, guide(subjects, clips, known)
    seeds = noise_seeds(len(clips.frames), *key)
    past = encode_frames(subjects.autoencoder, clips.frames[:, :known])
    primed = past, given.conditions[:, :known]
    if events is None:
        ahead = given.conditions[:, known:]
        seen = None
        if given.views is not None and subject.sampler.view_pull:
            seen = encode_views(subjects.autoencoder, given.views[:, known:])
        latents = roll_out(subject.model, subject.sampler, primed, ahead, label, seeds, seen)
        return Played(past, latents, None, given)
    rollout, happenings = Rollout(subject.model, subject.sampler, seeds), Happenings(events)
    rollout.prime(*primed)
    before = clips.cut(0, known)
    happenings.begin(recent_of(events, before, past), seeds)
    assert before.states is not None
    states, sampled, numbers = before.states[:, -1], [], []
    for f in through(range(known, clips.frames.shape[1]), desc=label, unit="frame"):
        actions = clips.actions[:, f]
        moved = states if subjects.motion is None else subjects.motion(states, actions)
        states = happenings.step(moved, actions)
        views = subjects.views(states[:, None]) if rollout.pulls else None
        seen = None if views is None else encode_views(subjects.autoencoder, views)
        conditions = condition(subjects, actions[:, None], states[:, None])
        sampled.append(rollout.step(conditions, seen))
        happenings.saw(sampled[-1][:, -1])
        numbers.append(states)
    played = torch.stack(numbers, dim=1)
    if given.views is not None:  # what is drawn is seen from where the world's own numbers say
        views = subjects.views(played)
        assert views is not None
        given = replace(given, views=torch.cat((given.views[:, :known], views), dim=1))
    return Played(past, torch.cat(sampled, dim=1), played, given)


def numbers_off(spec: StateSpec, made: Tensor, real: Tensor, horizons: Sequence[int]) -> Off:
    """Mean error of each number that changes, of states b g v against the game's, at some frames.

    Of what wraps, by the shorter way; of objects, how many of a kind are there.
    """
    found: Off = {}
    changing = {
        name: number
        for name, number in spec.numbers.items()
        if number.low < number.high and number.kind != "object"
    }
    for horizon in (one for one in horizons if one <= made.shape[1]):
        off = (made[:, horizon - 1] - real[:, horizon - 1]).abs()
        row = {}
        for name, number in changing.items():
            column = off[:, spec.index(name)]
            if number.kind in ("heading", "phase"):
                period = number.high - number.low
                column = torch.minimum(column % period, period - column % period)
            row[name] = float(column.nanmean())
        there = [_there(spec, states[:, horizon - 1]) for states in (made, real)]
        row |= {kind: float((there[0][kind] - there[1][kind]).abs().mean()) for kind in there[0]}
        found[horizon] = row
    return found


def _there(spec: StateSpec, states: Tensor) -> dict[str, Tensor]:
    """How many objects of each kind there are in states b v: b."""
    found: dict[str, Tensor] = {}
    for name in spec.names:
        if spec.numbers[name].kind == "object" and name.endswith(".x"):
            kind = f"{kind_of(name.removesuffix('.x'))}s there"
            is_there = torch.isfinite(states[:, spec.index(name)]).float()
            found[kind] = found.get(kind, torch.zeros(len(states))) + is_there.cpu()
    return found
