"""Where there is still room on the screen: nothing that is written lies over something else."""

from collections.abc import Sequence

import pygame


class FreeSpace:
    """Boxes that are taken, in a window of some size; who comes first gets the place."""

    def __init__(self, size: tuple[int, int], taken: Sequence[pygame.Rect] = ()) -> None:
        self.whole = pygame.Rect((0, 0), size)
        self.taken = list(taken)  # also what lies in the picture already

    def take(self, *boxes: pygame.Rect) -> bool:
        """All of these boxes, or none: False where one is taken or beyond the edge."""
        for box in boxes:
            if not self.whole.contains(box) or box.collidelist(self.taken) >= 0:
                return False
        self.taken.extend(boxes)
        return True

    def drop(self, box: pygame.Rect, gap: int) -> bool:
        """Take the first free place from there on downwards; `box` is moved to it."""
        while (hit := box.collidelist(self.taken)) >= 0:
            box.top = self.taken[hit].bottom + gap
        return self.take(box)
