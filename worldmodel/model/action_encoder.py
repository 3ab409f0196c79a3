"""Action vectors to conditioning tokens: what the player did, as the transformer reads it."""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def unconditional(actions: Tensor) -> Tensor:
    """Conditions ... z of a player whose actions are not known: every button at -1.

    So is what the rays of the view read, in a world with a floor plan. No player can send it, and
    it is not standing still. A model that is trained with `action_dropout` learns what it means, so
    guidance needs no weights of its own.
    """
    vectors = actions.clone()
    vectors[..., :-2], vectors[..., -2:] = -1.0, 0.0
    return vectors


class ActionEncoder(nn.Module):
    """Buttons and mouse travel of a frame become `tokens` tokens of model width.

    Later frames find them in the KV cache beside the frame's latents, so the model knows not only
    what a frame looked like but what was done in it.
    """

    def __init__(self, buttons: int, tokens: int, width: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.enter = nn.Linear(buttons + 2, width)
        self.leave = nn.Linear(width, tokens * width)

    def forward(self, actions: Tensor) -> Tensor:
        """Action vectors b f (k+2) -> tokens b f m d."""
        hidden = F.silu(self.enter(actions))
        return rearrange(self.leave(hidden), "b f (m d) -> b f m d", m=self.tokens)
