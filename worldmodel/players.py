"""Scripted players: they do by themselves what a person would do with the devices.

A script is text, one line per stretch of frames; `#` begins a comment:

    30 KeyW
    10 KeyW+KeyA mouse=4,0      # degrees per frame, right and down
    20 idle
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from worldmodel.action import IDLE, Action, ActionSpec
from worldmodel.config import UserError
from worldmodel.files import FileReadError, read_file
from worldmodel.recording import last_path, read_recording

LONGEST = 1_000_000  # frames that a line of a script may last
MOST_FRAMES = 10_000_000  # that a script may last
LARGEST_SCRIPT = 16 << 20  # bytes


class Player(Protocol):
    """Somebody who acts; the same index always gets the same action."""

    def act(self, index: int) -> Action:
        """The action that leads to frame `index`, which is 1 for the first."""


class ScriptError(UserError):
    """A player's script cannot be read."""


@dataclass(frozen=True, slots=True)
class ScriptedPlayer:
    """Plays a list of actions, then stands still. No actions at all is the idle player."""

    actions: Sequence[Action] = ()

    def act(self, index: int) -> Action:
        """The action that leads to frame `index`, which is 1 for the first."""
        return self.actions[index - 1] if index <= len(self.actions) else IDLE


@dataclass(slots=True)
class RandomPlayer:
    """Plays like a person who looks around: holds keys, turns with inertia, rests at times.

    All lengths are in frames. The numbers are those of people at 10 to 30 frames per second.
    """

    spec: ActionSpec
    seed: int
    _actions: list[Action] = field(default_factory=list)
    _random: random.Random = field(init=False)
    _buttons: frozenset[str] = frozenset()
    _frames_left: int = 0
    _turn: float = 0.0  # degrees per frame, follows _wanted_turn with inertia
    _wanted_turn: float = 0.0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def act(self, index: int) -> Action:
        """The action that leads to frame `index`, which is 1 for the first."""
        while len(self._actions) < index:
            self._actions.append(self._next())
        return self._actions[index - 1]

    def _next(self) -> Action:
        if not self._frames_left:
            self._change_mind()
        self._frames_left -= 1
        self._turn += 0.35 * (self._wanted_turn - self._turn)
        return Action(self._buttons, (round(self._turn, 4), 0.0))

    def _change_mind(self) -> None:
        self._frames_left = self._random.randint(5, 20)
        rests = self._random.random() < 0.12
        self._wanted_turn = (
            0.0
            if rests
            else self._random.choice((0.0, 0.15, 0.4))
            * (self._random.choice((-1, 1)) * self.spec.max_mouse_degrees)
        )
        self._buttons = frozenset() if rests else self._pick_buttons()

    def _pick_buttons(self) -> frozenset[str]:
        """Mostly the first button, which goes forward in every world; at times another one."""
        first, others = self.spec.buttons[:1], self.spec.buttons[1:]
        held = {button for button in first if self._random.random() < 0.75}
        if others and self._random.random() < 0.35:
            held.add(self._random.choice(others))
        return frozenset(held)


def load_script(path: Path) -> list[Action]:
    """The actions in a recording (`.jsonl`) or in a script."""
    if path.suffix == ".jsonl":
        rows = read_recording(path)[1]
        return [rows[i].action for i in last_path(rows)[1:]]
    try:
        lines = read_file(path, LARGEST_SCRIPT).decode().splitlines()
    except (FileReadError, UnicodeDecodeError) as error:
        raise ScriptError(f"{path}: not a player: {error}") from error
    actions: list[Action] = []
    for number, line in enumerate(lines, start=1):
        if words := line.partition("#")[0].split():
            try:
                actions += [_parse_action(words[1:])] * _parse_count(words[0])
            except (ValueError, OverflowError) as error:
                raise ScriptError(
                    f"{path}: line {number}: {line.strip()[:80]!r} should be like '30 KeyW', "
                    f"'10 KeyW+KeyA mouse=4,0' or '20 idle' ({str(error)[:80]})"
                ) from error
        if len(actions) > MOST_FRAMES:
            raise ScriptError(f"{path}: line {number}: a script lasts {MOST_FRAMES} frames at most")
    return actions


def _parse_count(word: str) -> int:
    count = int(word)
    if not 1 <= count <= LONGEST:
        raise ValueError(f"a line lasts 1 to {LONGEST} frames")
    return count


def _parse_action(words: Sequence[str]) -> Action:
    buttons: set[str] = set()
    right, down = 0.0, 0.0
    for word in words:
        if word.startswith("mouse="):
            right, down = map(float, word.removeprefix("mouse=").split(","))
            if not (math.isfinite(right) and math.isfinite(down)):
                raise ValueError("mouse travel is a number of degrees")
        elif word != "idle":
            buttons.update(word.split("+"))
    return Action(frozenset(buttons), (right, down))
