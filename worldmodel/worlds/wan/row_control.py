"""From what a player does during several frames to the rows of keys and mouse of the next chunk.

    control = RowControl(file)
    control.feed(action)                        # once a frame
    keys, mouse = control.next(frames=3)        # once a chunk: the windows of its latent frames

A button that was down in any frame since the last chunk is down in all rows of the chunk, so no tap
is lost; mouse travel adds up and is spread over the rows (`ControlsConfig`). Of one-hot keys a
chunk has room for one: what was pressed after it waits for the chunks that follow.

Letter of its own: r rows of a window.
"""

from collections.abc import Set

import torch
from torch import Tensor

from worldmodel.action import Action, ActionSpec
from worldmodel.wan.controls import ActionRows
from worldmodel.worlds.wan.world_file import ControlsConfig, WanWorldFile


class RowControl:
    """What was done since the last chunk, and the rows that later windows still need."""

    def __init__(self, file: WanWorldFile) -> None:
        assert file.controls is not None
        assert file.transformer.actions is not None
        self.config, self.spec, self.model = file.controls, file.actions, file.transformer.actions
        self.held: set[str] = set()
        self.waiting: list[str] = []  # one-hot buttons as they were pressed, one for each chunk
        self.mouse = (0.0, 0.0)
        sizes = self.model.rows, self.model.rows_per_latent
        self.key_rows, self.mouse_rows = ActionRows(*sizes), ActionRows(*sizes)

    def feed(self, action: Action) -> None:
        """What was done during one frame."""
        self.held |= action.buttons
        if self.config.idle >= 0:
            pressed = (button for button in self.config.keys if button in action.buttons)
            self.waiting += [button for button in pressed if button not in self.waiting]
        self.mouse = self.mouse[0] + action.mouse[0], self.mouse[1] + action.mouse[1]

    def next(self, frames: int) -> tuple[Tensor, Tensor | None]:
        """Move on by one chunk: windows of keys 1 f r k, and of the mouse 1 f r 2 if it has one."""
        rows = self.model.rows_per_latent * frames
        if self.key_rows.tail is None:  # the first latent frame of a session is one pixel frame
            rows -= self.model.rows_per_latent - 1
        travel = self.mouse[0] / rows, self.mouse[1] / rows
        pressed = {self.waiting.pop(0)} if self.waiting else self.held
        keys = torch.tensor(key_row(self.config, pressed)).expand(1, rows, -1)
        mouse = torch.tensor(mouse_row(self.config, self.spec, self.held, travel))
        mouse = mouse.expand(1, rows, -1)
        self.held, self.mouse = set(), (0.0, 0.0)
        windows = self.mouse_rows.next(mouse) if self.model.mouse else None
        return self.key_rows.next(keys), windows


def key_row(config: ControlsConfig, held: Set[str]) -> list[float]:
    """One row of keys; of one-hot ones, the first that is held."""
    row = [float(button in held) for button in config.keys]
    if config.idle < 0:
        return row
    pressed = row.index(1.0) if 1.0 in row else config.idle
    return [float(key == pressed) for key in range(len(row))]


def mouse_row(
    config: ControlsConfig, spec: ActionSpec, held: Set[str], travel: tuple[float, float]
) -> list[float]:
    """One row of the mouse, up and right, from degrees of travel, right and down."""
    right = travel[0] / spec.mouse_degrees if spec.look_left_right else 0.0
    up = -travel[1] / spec.mouse_degrees if spec.look_up_down else 0.0
    for button in sorted(held & config.steering.keys()):
        up, right = up + config.steering[button][0], right + config.steering[button][1]
    most = spec.max_mouse_degrees / spec.mouse_degrees
    return [min(max(number, -most), most) for number in (up, right)]
