"""Putting a button or a command on another key, by pressing it."""

from dataclasses import replace

from worldmodel.action import ActionSpec
from worldmodel.game.controls import Command, Controls, KeyMap
from worldmodel.game.key_names import is_pad, label, labels

RESERVED = {"Escape": "leads out", "PadStart": "opens the menu"}
NOTHING = ActionSpec(
    buttons=(), names=(), mouse_degrees=1.0, max_mouse_degrees=1.0, look_left_right=False
)  # while no world is there

Target = str | Command  # a world's button, or a runtime command


def assign(controls: Controls, spec: ActionSpec, target: Target, code: str) -> tuple[Controls, str]:
    """`code` does `target` from now on; what it did before gets the key that this leaves free.

    Also what there is to tell: why not, or which other use lost the key and what it has now.
    """
    if code in RESERVED:
        return controls, f"{label(code)} {RESERVED[code]} and stays as it is"
    if isinstance(target, Command) and code.startswith("Mouse"):
        return controls, "the mouse's buttons are for what the world names"
    keys, pad = KeyMap.of(spec, controls), is_pad(code)
    free = keys.keys_of(target, pad=pad)
    if code in free and len(free) == 1:
        return controls, ""
    others: list[Target] = [one for one in keys.buttons.get(code, ()) if one != target]
    if (command := keys.commands.get(code)) not in (None, target):
        others.append(command)
    changed, notices = _put(controls, target, [code], pad=pad), []
    for other in others:
        left = [key for key in keys.keys_of(other, pad=pad) if key != code]
        given = left or [key for key in free if key != code][:1]
        name = _name(spec, other)
        if not given and isinstance(other, str):
            return controls, f"{label(code)} is “{name}”: give that another key first"
        changed = _put(changed, other, given, pad=pad)
        now = f"is on {labels(given)} now" if given else "has no key now"
        notices.append(f"{label(code)} was taken from “{name}”, which {now}")
    return changed, "; ".join(notices)


def _name(spec: ActionSpec, target: Target) -> str:
    """What people call it."""
    if isinstance(target, Command):
        return target.value.partition(";")[0]
    return spec.names[spec.buttons.index(target)]


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
