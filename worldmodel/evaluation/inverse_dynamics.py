"""What was done, read from what is seen: an inverse-dynamics model of real frames.

A small network sees four consecutive frames and says which buttons were held and how far the view
turned between the second and the third. It compares every frame with the next one moved aside by
some pixels (the correlation layer of FlowNetC, arXiv 1504.06852, §3), because motion is what it is
asked about. Trained on real frames only, it reads generated ones: where it reads the same actions
there, the world obeys its player. Its features also serve as the space of the Fréchet distance,
stated as such wherever that number is printed.

Letters of its own: y x rows, columns of half the size, s displacements.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from worldmodel.model.autoencoder import to_tensor
from worldmodel.system.progress import through
from worldmodel.training.torch_streams import seed_default, torch_stream

WINDOW = 4  # frames; the action in question led to the third of them
ABLE = 0.5  # r with the real game's turning, from which it counts as able
LOOK = 24  # channels of one frame's own features
REACH = 9  # displacements across, in steps of two pixels, either way
SEEN_WIDTH = 64  # columns: larger frames are averaged down by a whole number, not below it
WIDTHS = (64, 96, 128)
FEATURES = 128
HELD = 0.5  # a button's entry in an action vector above which it was held


class InverseDynamics(nn.Module):
    """Four frames b 4 h w 3 -> button logits b k, turn b (in units of the action vector)."""

    def __init__(self, buttons: int, height: int, width: int) -> None:
        super().__init__()
        # So that a turn, which moves a larger picture by more pixels, stays within reach.
        self.shrink = max(1, width // SEEN_WIDTH)
        self.look = nn.Sequential(
            nn.Conv2d(3, LOOK, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(LOOK, LOOK, 3, padding=1),
        )
        displacements = 2 * REACH + 1
        layers: list[nn.Module] = []
        incoming = (WINDOW - 1) * displacements + LOOK
        for outgoing in WIDTHS:
            layers += [nn.Conv2d(incoming, outgoing, 3, stride=2, padding=1), nn.ReLU()]
            incoming = outgoing
        self.see = nn.Sequential(*layers)
        halved = 2 ** (1 + len(WIDTHS))
        cells = -(-(height // self.shrink) // halved) * -(-(width // self.shrink) // halved)
        self.think = nn.Linear(incoming * cells, FEATURES)
        self.answer = nn.Linear(FEATURES, buttons + 1)

    def features(self, windows: Tensor) -> Tensor:
        """uint8 b 4 h w 3 -> b d."""
        frames = to_tensor(rearrange(windows, "b f h w c -> (b f) h w c"))
        seen = self.look(F.avg_pool2d(frames, self.shrink))
        seen = rearrange(seen, "(b f) d y x -> b f d y x", f=WINDOW)
        motion = correlation(seen[:, :-1].flatten(0, 1), seen[:, 1:].flatten(0, 1), REACH)
        motion = rearrange(motion, "(b f) s y x -> b (f s) y x", f=WINDOW - 1)
        together = torch.cat((motion, F.relu(seen[:, 2])), dim=1)
        return F.relu(self.think(self.see(together).flatten(1)))

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 b 4 h w 3 -> logits b k, turn b."""
        answer = self.answer(self.features(windows))
        return answer[:, :-1], answer[:, -1]


def correlation(one: Tensor, other: Tensor, reach: int) -> Tensor:
    """Likeness, in [-1, 1], of each place in `one` and those beside it in `other`.

    b d y x twice, up to `reach` places to either side -> b s y x, from left to right. Each row is
    one matrix product of all its places; of that matrix the band around the diagonal is taken.
    """
    one, other = (rearrange(F.normalize(x, dim=1), "b d y x -> b y x d") for x in (one, other))
    width = F.pad(one @ other.mT, (reach, reach))  # b y x (reach + x + reach)
    batch, rows, columns, padded = width.shape
    band = width.contiguous().as_strided(
        (batch, rows, columns, 2 * reach + 1),
        (rows * columns * padded, columns * padded, padded + 1, 1),
    )
    return rearrange(band, "b y x s -> b s y x")


@dataclass(frozen=True, slots=True)
class ActionReading:
    """How well actions can be read from frames."""

    turn_correlation: float
    button_accuracy: float  # mean over buttons of the balanced accuracy


def windows_of(clips: Sequence[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], Tensor]:
    """Clips of frames f h w 3 with action vectors f (k+2) -> windows 4 h w 3 (views), actions."""
    windows, actions = [], []
    for frames, vectors in clips:
        for last in range(WINDOW - 1, len(frames)):
            windows.append(frames[last - WINDOW + 1 : last + 1])
            actions.append(vectors[last - 1])
    return windows, torch.stack(actions)


def train_inverse_dynamics(
    clips: Sequence[tuple[Tensor, Tensor]], steps: int = 1200, batch: int = 64
) -> InverseDynamics:
    """Fit on real clips of frames f h w 3 and action vectors f (k+2)."""
    windows, actions = windows_of(clips)
    seed_default("judge", "weights")  # what the model was called when figures began
    model = InverseDynamics(actions.shape[1] - 2, *windows[0].shape[1:3])
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    generator = torch_stream("cpu", "judge", "batches")
    for _ in through(range(steps), desc="inverse dynamics"):
        index = torch.randint(len(windows), (batch,), generator=generator)
        logits, turn = model(torch.stack([windows[i] for i in index]))
        held = (actions[index, :-2] > HELD).float()
        loss = F.binary_cross_entropy_with_logits(logits, held)
        loss = loss + F.smooth_l1_loss(turn, actions[index, -2])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval().requires_grad_(requires_grad=False)


@torch.no_grad()
def read_actions(model: InverseDynamics, clips: Sequence[tuple[Tensor, Tensor]]) -> ActionReading:
    """Compare what the model reads from clips with what was done in them."""
    windows, actions = windows_of(clips)
    answers = [model(torch.stack(windows[i : i + 256])) for i in range(0, len(windows), 256)]
    logits, turn = (torch.cat(parts) for parts in zip(*answers, strict=True))
    return compare_reading(logits, turn, actions)


def compare_reading(logits: Tensor, turn: Tensor, actions: Tensor) -> ActionReading:
    """What was read, logits b k and turn b, against action vectors b (k+2) of what was done."""
    held, read = actions[:, :-2] > HELD, logits > 0
    balanced = [
        (r[h].float().mean() + (~r[~h]).float().mean()) / 2
        for h, r in zip(held.T, read.T, strict=True)
        if h.any() and not h.all()
    ]
    pair = torch.stack((turn, actions[:, -2]))
    return ActionReading(
        turn_correlation=float(torch.corrcoef(pair)[0, 1]),
        button_accuracy=float(torch.stack(balanced).mean()) if balanced else float("nan"),
    )


@torch.no_grad()
def features_of(model: InverseDynamics, frames: Tensor, stride: int = 1) -> Tensor:
    """Features of every window of a clip f h w 3: about f/stride d."""
    ends = range(WINDOW, len(frames) + 1, stride)
    windows = [frames[end - WINDOW : end] for end in ends]
    return torch.cat(
        [model.features(torch.stack(windows[i : i + 256])) for i in range(0, len(windows), 256)]
    )
