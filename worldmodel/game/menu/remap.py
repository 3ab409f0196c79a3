"""Putting a button or a command on another key, by pressing it."""

from dataclasses import replace

from worldmodel.action import ActionSpec
from worldmodel.game.controls import Command, Controls, KeyMap
from worldmodel.game.keys import is_pad, label

RESERVED = {"Escape": "leads out", "PadStart": "opens the menu"}
NOTHING = ActionSpec(
    buttons=(), names=(), mouse_degrees=1.0, max_mouse_degrees=1.0, look_left_right=False
)  # while no world is there

Target = str | Command  # a world's button, or a runtime command


def assign(controls: Controls, spec: ActionSpec, target: Target, code: str) -> tuple[Controls, str]:
    """`code` does `target` from now on; what it did before gets the key that this leaves free.

    Also why not, if it cannot be.
    """
    if code in RESERVED:
        return controls, f"{label(code)} {RESERVED[code]} and stays as it is"
    if isinstance(target, Command) and code.startswith("Mouse"):
        return controls, "the mouse's buttons are for what the world names"
    keys, pad = KeyMap.of(spec, controls), is_pad(code)
    free = [key for key in keys.keys_of(target) if is_pad(key) == pad]
    if code in free and len(free) == 1:
        return controls, ""
    others: list[Target] = [one for one in keys.buttons.get(code, ()) if one != target]
    if (command := keys.commands.get(code)) not in (None, target):
        others.append(command)
    changed = _put(controls, target, [code], pad=pad)
    for other in others:
        left = [key for key in keys.keys_of(other) if is_pad(key) == pad and key != code]
        given = left or [key for key in free if key != code][:1]
        if not given and isinstance(other, str):
            name = spec.names[spec.buttons.index(other)]
            return controls, f"{label(code)} is {name}: give that another key first"
        changed = _put(changed, other, given, pad=pad)
    return changed, ""


def usual(controls: Controls) -> Controls:
    """Every key where it is without a controls file."""
    return replace(controls, buttons={}, commands={})


def _put(controls: Controls, target: Target, codes: list[str], *, pad: bool) -> Controls:
    """Keys of one kind of device; those of the other stay."""
    table = controls.commands if isinstance(target, Command) else controls.buttons
    name = target.key if isinstance(target, Command) else target
    others = [key for key in table.get(name, ()) if is_pad(key) != pad]
    table = {**table, name: (*codes, *others)}
    if isinstance(target, Command):
        return replace(controls, commands=table)
    return replace(controls, buttons=table)
