"""From rows of actions, one a pixel frame, to what each latent frame is given.

    log = ActionRows(actions.rows)          # one for keys, one for the mouse, of one session
    windows = log.next(rows)                # rows of a chunk in, windows of its frames out

Latent frame i covers the pixel frames 4i - 3 … 4i, the first one pixel frame 0 alone, and is given
the twelve rows 4i - 12 … 4i - 1; rows before the first are as the first. So row g says what is done
while frame g is on the screen, and the last row of a chunk acts in the chunk after it.

Letter of its own: r rows of a window. A latent frame f is some frames g of pixels.
"""

import torch
from torch import Tensor


def row_windows(rows: Tensor, size: int, step: int = 4) -> Tensor:
    """Rows b g k of a whole clip, g = 1 + 4 (f - 1): the windows of its latent frames, b f r k."""
    padded = torch.cat((rows[:, :1].expand(-1, size, -1), rows), dim=1)
    return padded[:, : size + rows.shape[1] - 1].unfold(1, size, step).movedim(-1, -2)


class ActionRows:
    """The last rows of one kind in one session: all that later windows still need."""

    def __init__(self, size: int, step: int = 4) -> None:
        self.size, self.step = size, step
        self.tail: Tensor | None = None  # b 9 k; nothing before the first chunk

    def next(self, rows: Tensor) -> Tensor:
        """Rows b g k of a chunk's pixel frames -> windows b f r k of its latent frames."""
        if self.tail is None:  # its first latent frame is one pixel frame
            first = rows[:, :1].expand(-1, self.step - 1, -1)
            rows = torch.cat((first, rows), dim=1)
            self.tail = rows[:, :1].expand(-1, self.size - self.step + 1, -1)
        known = torch.cat((self.tail, rows), dim=1)
        self.tail = known[:, known.shape[1] - self.tail.shape[1] :]
        return known[:, :-1].unfold(1, self.size, self.step).movedim(-1, -2)
