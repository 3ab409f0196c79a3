"""What a player's keys mean to a Gymnasium environment, and back.

| action space                    | becomes                                                |
|---------------------------------|--------------------------------------------------------|
| any, with `get_keys_to_action`  | the environment's own keys                             |
| any, with `--keys`              | those keys: `ArrowLeft=0,ArrowRight=2`                 |
| Discrete                        | a key for every action but `noop`: Digit1, Digit2, …   |
| MultiBinary                     | a key for every bit                                    |
| MultiDiscrete                   | for every part a key for each value but the lowest     |
| Box of one or two bounded numbers | mouse right and down; not moving it is the middle    |

No key at all is the action `noop`, and so is a combination that no one has given a meaning.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import Env, spaces

from worldmodel.action import ActionSpec
from worldmodel.config import UserError
from worldmodel.data_sources.action_mapping import (
    FULL_TURN,
    ActionMapping,
    KeyGroups,
    Keys,
    KeyTable,
    MouseAxes,
)
from worldmodel.system.keycodes import KEYCODES, key_name

SPARE_KEYS = tuple(f"Digit{d}" for d in "1234567890") + tuple(f"Key{c}" for c in "QWERTYUIOP")


def make_action_mapping(env: "Env[Any, Any]", keys: str | None, noop: str | None) -> ActionMapping:
    """The keys of an environment; `keys` and `noop` as on the command line, None its own."""
    space = env.action_space
    nothing = _first_noop(space) if noop is None else _parse_value(noop, space, "--noop")
    if keys is not None:
        return _table(parse_keys(keys, space), nothing, env)
    if env.has_wrapper_attr("get_keys_to_action"):
        own = _own_keys(env.get_wrapper_attr("get_keys_to_action")())
        nothing = own.get(frozenset(), nothing) if noop is None else nothing
        return _table(own, nothing, env)
    match space:
        case spaces.Discrete():
            every = range(int(space.start), int(space.start + space.n))
            actions = [action for action in every if action != nothing]
            named = zip(_spare(len(actions), env), actions, strict=True)
            return _table({frozenset({key}): a for key, a in named}, nothing, env)
        case spaces.MultiBinary():
            return _groups([2] * int(np.prod(space.shape)), space, env)
        case spaces.MultiDiscrete():
            return _groups(space.nvec.reshape(-1).tolist(), space, env)
        case spaces.Box() if _is_mouse(space):
            return _mouse(space)
    raise UserError(
        f"{_id(env)}: its actions are {space}; recorded are Discrete, MultiBinary, MultiDiscrete, "
        "a Box of one or two bounded numbers (the mouse), and any other where --keys says "
        "which keys mean which action, for instance --keys 'KeyW=[0,1,0],KeyA=[-1,0,0]'"
    )


def parse_keys(text: str, space: "spaces.Space[Any]") -> dict[Keys, Any]:
    """Read `ArrowLeft=0,KeyW+Space=[0,1]`: keys of the player, an action of the environment."""
    table: dict[Keys, Any] = {}
    for part in _split(text):
        names, is_pair, value = part.partition("=")
        keys = frozenset(name.strip() for name in names.split("+"))
        if not is_pair or not keys <= KEYCODES.keys():
            raise UserError(
                f"--keys {part!r}: expected KEY=ACTION or KEY+KEY=ACTION, keys being among "
                f"{', '.join(KEYCODES)}"
            )
        table[keys] = _parse_value(value, space, f"--keys {part}")
    return table


def _split(text: str) -> list[str]:
    """At commas that are not inside brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[(") - (letter in "])")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _parse_value(text: str, space: "spaces.Space[Any]", where: str) -> Any:
    """A number or a list of numbers that the space contains."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UserError(f"{where}: {text!r} is neither a number nor a list of them") from error
    value = found
    try:
        if space.shape:
            value = np.asarray(found, space.dtype)
            if value.size == 1:  # a Box of one number may be written as that number
                value = value.reshape(space.shape)
        is_one = space.contains(value)
    except (ValueError, TypeError):  # of another shape, or no numbers
        is_one = False
    if not is_one:
        raise UserError(f"{where}: {found!r} is none of the environment's actions, {space}")
    return value


def _own_keys(found: Mapping[Any, Any]) -> dict[Keys, Any]:
    """What `get_keys_to_action` says, in W3C names."""
    table: dict[Keys, Any] = {}
    for combination, action in found.items():
        several = (combination,) if isinstance(combination, int) else combination
        names = [key_name(key) for key in several]
        if None in names:
            raise UserError(
                f"the environment's keys {combination!r} have no name here; say with --keys "
                "which keys mean which action"
            )
        table[frozenset(name for name in names if name)] = action
    return table


def _table(table: dict[Keys, Any], noop: Any, env: "Env[Any, Any]") -> KeyTable:
    buttons = tuple(dict.fromkeys(key for keys in table for key in sorted(keys)))
    if not buttons:
        raise UserError(f"{_id(env)}: no key means anything; say which do with --keys")
    meanings = _meanings(env)
    names = {key: _name(table.get(frozenset({key})), meanings, key) for key in buttons}
    return KeyTable(_spec(buttons, [names[key] for key in buttons]), table, noop)


def _groups(
    counts: Sequence[int], space: "spaces.MultiBinary | spaces.MultiDiscrete", env: "Env[Any, Any]"
) -> KeyGroups:
    keys = iter(_spare(sum(count - 1 for count in counts), env))
    groups = [[next(keys) for _ in range(count - 1)] for count in counts]
    names = [
        f"part {g}" if count == 2 else f"part {g} = {value}"
        for g, count in enumerate(counts)
        for value in range(1, count)
    ]
    least = np.zeros(len(counts), np.int64)
    if isinstance(space, spaces.MultiDiscrete):
        least = np.asarray(space.start, np.int64).reshape(-1)
    spec = _spec([key for group in groups for key in group], names)
    return KeyGroups(spec, groups, space.shape, np.dtype(space.dtype), least)


def _mouse(space: spaces.Box) -> MouseAxes:
    low, high = (np.asarray(x, np.float64).reshape(-1) for x in (space.low, space.high))
    both = len(low) == 2
    spec = replace(_spec((), ()), look_left_right=True, look_up_down=both)
    return MouseAxes(spec, low, high, space)


def _spec(buttons: Sequence[str], names: Sequence[str]) -> ActionSpec:
    return ActionSpec(
        buttons=tuple(buttons),
        names=tuple(names),
        mouse_degrees=FULL_TURN,
        max_mouse_degrees=FULL_TURN,
        look_left_right=False,
    )


def _is_mouse(space: spaces.Box) -> bool:
    count = int(np.prod(space.shape))
    is_float = np.issubdtype(space.dtype, np.floating)
    return is_float and 1 <= count <= 2 and bool(np.isfinite([space.low, space.high]).all())


def _first_noop(space: "spaces.Space[Any]") -> Any:
    """What doing nothing is unless somebody says otherwise: 0, as in `gymnasium.utils.play`."""
    match space:
        case spaces.Discrete():
            return int(space.start)
        case spaces.MultiDiscrete():
            return np.asarray(space.start, space.dtype)
        case _:
            return np.zeros(space.shape or (), space.dtype)


def _spare(count: int, env: "Env[Any, Any]") -> Sequence[str]:
    if count > len(SPARE_KEYS):
        raise UserError(
            f"{_id(env)}: {count} keys would be needed, {len(SPARE_KEYS)} are given out by "
            "themselves; say with --keys which keys mean which action"
        )
    return SPARE_KEYS[:count]


def _meanings(env: "Env[Any, Any]") -> Sequence[str]:
    """Names of a Discrete space's actions, where the environment has them (Atari does)."""
    if not env.has_wrapper_attr("get_action_meanings"):
        return ()
    return [str(name).lower() for name in env.get_wrapper_attr("get_action_meanings")()]


def _name(value: Any, meanings: Sequence[str], key: str) -> str:
    if value is None:  # a key that only counts together with others
        return f"with {key}"
    if isinstance(value, int | np.integer) and 0 <= value < len(meanings):
        return meanings[int(value)]
    numbers = [f"{number:g}" for number in np.asarray(value, np.float64).reshape(-1).tolist()]
    return f"action {', '.join(numbers)}"


def _id(env: "Env[Any, Any]") -> str:
    return env.spec.id if env.spec else type(env.unwrapped).__name__
