"""Scripted players: they do by themselves what a person would do with the devices.

A script is text, one line per stretch of frames; `#` begins a comment:

    30 KeyW
    10 KeyW+KeyA mouse=4,0      # degrees per frame, right and down
    20 idle

What is said when, in a world with text, is a timeline: seconds since the start frame and words. An
exclamation mark before the words reads the remembered past again under them.

    0     A foggy forest at dawn.
    12.5  The sun breaks through.
    30    ! The same forest, burnt down.
"""

import importlib
import math
import random
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from worldmodel.action import IDLE, Action, ActionSpec, Prompt
from worldmodel.config import UserError
from worldmodel.storage.files import FileReadError, read_text
from worldmodel.storage.recording import last_path, read_recording
from worldmodel.system.limits import (
    LARGEST_SCRIPT,
    LONGEST_SCRIPT_FRAMES,
    LONGEST_STRETCH,
    LONGEST_TIMELINE,
)

RECENT = 4096  # actions that a random player remembers
STRETCH = 1 << 20  # frames after which it begins anew: no frame takes longer than these to reach


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
    _recent: deque[Action] = field(default_factory=lambda: deque(maxlen=RECENT))
    _made: int = 0  # actions so far, those that were forgotten again included
    _random: random.Random = field(init=False)
    _buttons: frozenset[str] = frozenset()
    _frames_left: int = 0
    _turn: float = 0.0  # degrees per frame, follows _wanted_turn with inertia
    _wanted_turn: float = 0.0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def act(self, index: int) -> Action:
        """The action that leads to frame `index`, which is 1 for the first."""
        stretch = (index - 1) // STRETCH
        is_forgotten = index <= self._made - len(self._recent)
        if is_forgotten or stretch > (self._made - 1) // STRETCH:
            self._begin(stretch)
        while self._made < index:
            self._recent.append(self._next())
            self._made += 1
        return self._recent[index - self._made - 1]

    def _begin(self, stretch: int) -> None:
        """Forget everything, and be about to act for a stretch's first frame."""
        seed = self.seed if stretch <= 0 else f"{self.seed} {stretch}"
        self._random, self._made = random.Random(seed), max(0, stretch) * STRETCH
        self._recent.clear()
        self._buttons, self._frames_left = frozenset(), 0
        self._turn = self._wanted_turn = 0.0

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
    if path.suffix.lower() == ".jsonl":
        rows = read_recording(path)[1]
        return [rows[i].action for i in last_path(rows)[1:]]
    actions: list[Action] = []
    for number, line in _lines(path, "player"):
        if words := line.partition("#")[0].split():
            try:
                actions += [_parse_action(words[1:])] * _parse_count(words[0])
            except (ValueError, OverflowError) as error:
                raise ScriptError(
                    f"{path}: line {number}: {line.strip()[:80]!r} should be like '30 KeyW', "
                    f"'10 KeyW+KeyA mouse=4,0' or '20 idle' ({str(error)[:80]})"
                ) from error
        if len(actions) > LONGEST_SCRIPT_FRAMES:
            raise ScriptError(
                f"{path}: line {number}: a script lasts {LONGEST_SCRIPT_FRAMES} frames at most"
            )
    return actions


def load_code(name: str, *, allow_code: bool) -> Callable[..., Any]:
    """What `module:callable` names; nothing is imported unless the user said that it may be."""
    if not allow_code:
        raise UserError(f"--player {name} is code that would be run: add --allow-code if you want")
    module, _, attribute = name.partition(":")
    find_here()
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"--player {name}: {error}") from error
    if not callable(found):
        raise UserError(f"--player {name}: {attribute} is no function or class")
    return found


def find_here() -> None:
    """Let modules in the working folder be found, after all others."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def load_timeline(path: Path) -> tuple[tuple[float, Prompt], ...]:
    """Seconds and prompts of a timeline, in order."""
    said: list[tuple[float, Prompt]] = []
    for number, line in _lines(path, "timeline"):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        time, _, words = line.strip().partition(" ")
        words = words.strip()
        text = words.removeprefix("!").strip()
        if not _is_time(time) or not text:
            raise ScriptError(
                f"{path}: line {number}: {line.strip()[:60]!r} should be seconds and words, "
                "like '12.5 It begins to rain.'"
            )
        said.append((float(time), Prompt(text, renew=words.startswith("!"))))
    return tuple(sorted(said, key=lambda entry: entry[0]))


def said_during(
    timeline: Sequence[tuple[float, Prompt]], index: int, frames_per_second: float
) -> Prompt | None:
    """The last thing said between frame `index` - 1 and frame `index`, which is 1 for the first."""
    last = None
    for time, prompt in timeline:
        if math.floor(time * frames_per_second) + 1 == index:
            last = prompt
    return last


def _lines(path: Path, what: str) -> Iterator[tuple[int, str]]:
    """The lines of a text, counted from 1."""
    try:
        yield from enumerate(read_text(path, LARGEST_SCRIPT).splitlines(), start=1)
    except FileReadError as error:
        raise ScriptError(f"{path}: not a {what}: {error}") from error


def _is_time(text: str) -> bool:
    try:
        return 0 <= float(text) <= LONGEST_TIMELINE
    except ValueError:
        return False


def _parse_count(word: str) -> int:
    count = int(word)
    if not 1 <= count <= LONGEST_STRETCH:
        raise ValueError(f"a line lasts 1 to {LONGEST_STRETCH} frames")
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
