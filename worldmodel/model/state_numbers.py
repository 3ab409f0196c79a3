"""What a transformer gets of a state: numbers as features, for the condition of a frame.

A count is given digit by digit, as the game's own status bar draws it; a heading as a direction; a
phase as one too. A number that is not known is given as zeros.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from worldmodel.config import ConfigError
from worldmodel.model.configs import ModelConfig
from worldmodel.model.objects import encode_objects
from worldmodel.model.state_configs import ConditionNumber
from worldmodel.state_spec import FULL_TURN, StateSpec

TURNS = (1, 2, 4, 8)  # waves to a full turn that tell a direction


def choose_state_numbers(spec: StateSpec, names: Sequence[str]) -> tuple[ConditionNumber, ...]:
    """The numbers of a state that a transformer is to be given, by name; unknown is an error."""
    for name in names:
        spec.index(name)
    known = spec.numbers
    return tuple(
        ConditionNumber(name=n, kind=known[n].kind, low=known[n].low, high=known[n].high)
        for n in names
    )


def encode_state_numbers(
    state_numbers: Sequence[ConditionNumber], names: Sequence[str], states: Tensor
) -> Tensor:
    """States ... v, whose numbers have the `names`, as features ... d, fp32."""
    parts = []
    for number in state_numbers:
        if number.name not in names:
            raise ConfigError(f"the world wants {number.name!r}, the state has {', '.join(names)}")
        parts.append(_features(number, states[..., list(names).index(number.name)].float()))
    return torch.cat(parts, dim=-1)


def encode_state(config: ModelConfig, names: Sequence[str], states: Tensor) -> Tensor:
    """All that a transformer is given of states ... v: objects ray by ray, then numbers; ... d."""
    parts = []
    if config.objects is not None:
        parts.append(encode_objects(config.objects, names, states))
    if config.state_numbers:
        parts.append(encode_state_numbers(config.state_numbers, names, states))
    return torch.cat(parts, dim=-1)


def with_state(
    config: ModelConfig, spec: StateSpec | None, states: Tensor, actions: Tensor
) -> Tensor:
    """Actions ... k behind what a transformer is given of states ... v, if anything."""
    if not config.is_conditioned_on_state:
        return actions
    assert spec is not None
    return torch.cat((encode_state(config, spec.names, states).to(actions), actions), dim=-1)


def _features(number: ConditionNumber, values: Tensor) -> Tensor:
    """One number ... -> ... features."""
    known = torch.isfinite(values)[..., None]
    values = torch.nan_to_num(values, nan=number.low)
    if number.kind in ("heading", "phase"):
        period = FULL_TURN if number.kind == "heading" else number.high - number.low
        turn = 2 * math.pi * (values - number.low * (number.kind == "phase")) / period
        angles = torch.stack([n * turn for n in TURNS], dim=-1)
        features = torch.cat((angles.cos(), angles.sin()), dim=-1)
    elif number.kind == "flag":
        features = (2 * values - 1)[..., None]
    else:
        span = max(number.high - number.low, 1e-6)
        scaled = (2 * (values - number.low) / span - 1).clamp(-2, 2)
        if number.kind == "count":
            features = torch.cat((scaled[..., None], _digits(values, number.digits)), dim=-1)
        else:
            angles = torch.stack((math.pi * scaled, 4 * math.pi * scaled), dim=-1)
            features = torch.cat((scaled[..., None], angles.cos(), angles.sin()), dim=-1)
    return torch.where(known, features, torch.zeros_like(features))


def _digits(values: Tensor, digits: int) -> Tensor:
    """Counts ... as decimal digits, ones first, each one of ten: ... (10 digits)."""
    whole = values.round().clamp(0, 10**digits - 1).long()
    places = [whole // 10**place % 10 for place in range(digits)]
    one_hot = [torch.nn.functional.one_hot(place, 10) for place in places]
    return torch.cat(one_hot, dim=-1).float()
