"""What goes over a socket: JSON text from the client, JSON text and binary frames to it.

A client says `hello` first, then `play` (or it resumes or watches by its hello):

    {"type": "hello", "token": "...", "resume": "...", "watch": "...", "h264": true}  # all optional
    {"type": "play", "world": 0, "start": 0, "seed": 1}                 # which of the worlds named
    {"type": "act", "buttons": ["KeyW"], "mouse": [1.5, 0], "time": 12.5}
    {"type": "ack", "frame": 7}                                         # the serial number
    {"type": "save" | "load" | "rewind" | "park" | "go"}
    {"type": "say", "text": "It rains.", "renew": false}                # in a world with words
    {"type": "record" | "stop"}                                         # a clip to download

A frame is 16 bytes, little endian (serial number uint32, number of the frame in its session uint32,
`time` of the newest action in it float64), then a PNG, a JPEG or, for who said that it decodes
H.264, an access unit in Annex B; a key frame begins with its sequence parameters. The first bytes
tell which.
"""

import json
import math
import struct
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np

from worldmodel.action import Action, Prompt
from worldmodel.system.limits import LONGEST_BUTTON, LONGEST_PROMPT, MOST_BUTTONS
from worldmodel.system.printable import printable
from worldmodel.world import Frame

HEADER = struct.Struct("<IId")
EXACT = 256  # pixels: frames of at most so many in both directions are sent as PNG
COARSE = 30  # quality of a JPEG below which it is made smaller
MOST_SEED = 2**31 - 1
LONGEST_KEY = 64
ORDERS = ("save", "load", "rewind", "park", "go")
RECORDING = ("record", "stop")


class ProtocolError(ValueError):
    """A message is none that a client may send; says what was found and expected."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Who asks; keys are empty where none was given."""

    token: str
    resume: str
    watch: str
    h264: bool = False  # whether it decodes that


@dataclass(frozen=True, slots=True)
class PlayMessage:
    """A page asks for a new session."""

    start: int
    seed: int
    world: int = 0


@dataclass(frozen=True, slots=True)
class Act:
    """What the player does from now on."""

    action: Action
    time: float  # of the client's clock, milliseconds


@dataclass(frozen=True, slots=True)
class Ack:
    """A page has drawn a frame."""

    serial: int


@dataclass(frozen=True, slots=True)
class Order:
    """A page asks for one of `ORDERS`: save, load, rewind and the like."""

    what: Literal["save", "load", "rewind", "park", "go"]


@dataclass(frozen=True, slots=True)
class Say:
    """Words that steer the world."""

    prompt: Prompt


@dataclass(frozen=True, slots=True)
class Record:
    """A page begins a clip, or ends it."""

    begins: bool


Message = Hello | PlayMessage | Act | Ack | Order | Say | Record


def read_message(text: str) -> Message:
    """A client's message; a `ProtocolError` if it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a message is no JSON") from error
    if not isinstance(found, dict):
        raise ProtocolError("a message must be a JSON object")
    kind = found.get("type")
    if kind == "hello":
        token, resume, watch = (_key(found, name) for name in ("token", "resume", "watch"))
        return Hello(token, resume, watch, _flag(found, "h264"))
    if kind == "play":
        world = _count({"world": 0} | found, "world")
        return PlayMessage(_count(found, "start"), _count(found, "seed"), world)
    if kind == "act":
        return Act(_action(found), _number(found.get("time", 0.0), "time"))
    if kind == "ack":
        return Ack(_count(found, "frame"))
    if kind in ORDERS:
        return Order(kind)
    if kind == "say":
        return Say(Prompt(_words(found), _flag(found, "renew")))
    if kind in RECORDING:
        return Record(kind == "record")
    raise ProtocolError(f"type must be hello, play, act, ack, say, {', '.join(ORDERS + RECORDING)}")


def _key(found: dict[str, Any], name: str) -> str:
    value = found.get(name, "")
    if not isinstance(value, str) or len(value) > LONGEST_KEY or not value.isascii():
        raise ProtocolError(f"{name} must be a text of at most {LONGEST_KEY} plain letters")
    return value


def _words(found: dict[str, Any]) -> str:
    text = found.get("text")
    if not isinstance(text, str) or not text.strip() or len(text) > LONGEST_PROMPT:
        raise ProtocolError(f"text must be words, of at most {LONGEST_PROMPT} letters")
    return printable(text, LONGEST_PROMPT)


def _flag(found: dict[str, Any], name: str) -> bool:
    value = found.get(name, False)
    if not isinstance(value, bool):
        raise ProtocolError(f"{name} must be true or false")
    return value


def _count(found: dict[str, Any], name: str) -> int:
    value = found.get(name)
    if type(value) is not int or not 0 <= value <= MOST_SEED:
        raise ProtocolError(f"{name} must be a whole number from 0 to {MOST_SEED}")
    return value


def _number(value: object, name: str) -> float:
    if type(value) not in (int, float):
        raise ProtocolError(f"{name} must be a number")
    try:
        number = float(value)  # type: ignore[arg-type]  # just looked at
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ProtocolError(f"{name} must be finite")
    return number


def _action(found: dict[str, Any]) -> Action:
    buttons, mouse = found.get("buttons", []), found.get("mouse", [0, 0])
    if not isinstance(buttons, list) or len(buttons) > MOST_BUTTONS:
        raise ProtocolError(f"buttons must be a list of at most {MOST_BUTTONS}")
    if not all(isinstance(code, str) and len(code) <= LONGEST_BUTTON for code in buttons):
        raise ProtocolError(f"a button must be a text of at most {LONGEST_BUTTON} letters")
    if not isinstance(mouse, list) or len(mouse) != 2:
        raise ProtocolError("mouse must be two numbers")
    return Action(frozenset(buttons), (_number(mouse[0], "mouse"), _number(mouse[1], "mouse")))


def is_exact(size: tuple[int, int]) -> bool:
    """Whether frames of so many rows and columns are sent without loss."""
    return max(size) <= EXACT


def encode(frame: Frame, quality: int) -> bytes:
    """A frame h w 3 as PNG if it is small, else as JPEG of a quality from 1 to 100.

    Below `COARSE` it has half as many rows and columns, each of which shows more: a third of the
    bytes that the full size has at `COARSE`.
    """
    if is_exact((frame.shape[0], frame.shape[1])):
        # Less than half the time of the lowest level of compression, for 4 to 9 % more bytes.
        kind, options = ".png", [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY]
    else:
        if quality < COARSE:
            half = cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            frame = np.asarray(half, np.uint8)
            quality = 15 + 3 * quality
        kind, options = ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality]
    done, data = cv2.imencode(kind, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise RuntimeError(f"a frame {frame.shape} could not be encoded as {kind}")
    return data.tobytes()
