"""Decoding a video while it is being made: one latent frame in, its pixel frames out.

    stream = vae.stream()
    frames = stream.decode(latent)     # b 3 1 h w for the first latent frame, b 3 4 h w after it
    moment = stream.state()            # plain tensors, free of charge: nothing is copied
    stream.load_state(moment)          # goes on from there, bit for bit

The layers hold weights only. What they remember from step to step are the last frames of their
inputs; a step takes them from a `LayerCaches` and leaves the next step's there. Remembered tensors
are never written to, so states can be kept, shared and gone back to.
"""

from collections import deque
from collections.abc import Mapping, Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from worldmodel.config import UserError
from worldmodel.wan.layer_costs import Shape, remembered
from worldmodel.wan.taehv_config import TaehvConfig
from worldmodel.wan.vae_config import VaeConfig

LAST = torch.channels_last_3d


def as_bytes(frames: Tensor) -> Tensor:
    """Frames in [-1, 1] of any shape, as they are shown: uint8."""
    return frames.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


class LayerCaches:
    """What layers remember of the steps before, in the order in which a step uses them."""

    def __init__(self, before: Sequence[Tensor] = ()) -> None:
        self.first = not before
        self._before = deque(before)
        self.after: list[Tensor] = []

    def extend(self, x: Tensor, frames: int) -> Tensor:
        """Put what came before x (zeros at first) in front of it: b c g h w -> b c frames+g h w.

        The last `frames` of the result are what the next step will find.
        """
        if self.first:
            b, c, _, h, w = x.shape
            before = x.new_zeros(b, c, frames, h, w).contiguous(memory_format=LAST)
        else:
            before = self._before.popleft()  # and so free to go once it is used
        x = torch.cat((before, x), dim=2)
        # A copy, so that the frames that nobody needs again are freed.
        self.after.append(x[:, :, x.shape[2] - frames :].clone(memory_format=LAST))
        return x


class Stepwise(nn.Module):
    """A decoder that goes latent frame by latent frame; what it remembers is in `LayerCaches`."""

    config: TaehvConfig | VaeConfig

    def step(self, latent: Tensor, past: LayerCaches) -> Tensor:
        """Latent b c 1 h w -> frames b 3 g h w in [-1, 1]."""
        raise NotImplementedError

    def past_shapes(self, batch: int, rows: int, columns: int) -> list[Shape]:
        """What a step leaves in `LayerCaches` for latents of rows x columns: b g h w c of each."""
        return remembered(self.config.decoder_layers, batch, rows, columns)

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        return self.config.latent_channels

    def stream(self) -> "StreamingDecoder":
        """A new video, decoded as its latent frames come."""
        return StreamingDecoder(self)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents b c f h w -> frames b 3 1+4(f-1) h w in [-1, 1], in the memory of one step."""
        stream = self.stream()
        return torch.cat([stream.decode(latent) for latent in latents.split(1, dim=2)], dim=2)


class StreamingDecoder:
    """One video being decoded; several can run on the same decoder."""

    def __init__(self, decoder: Stepwise) -> None:
        self.decoder = decoder
        self._latent: Shape = ()  # b c 1 h w, known from the first frame on
        self._past: list[Tensor] = []

    @torch.inference_mode()
    def decode(self, latent: Tensor) -> Tensor:
        """Latent b c 1 h w (normalised) -> frames b 3 g h w in [-1, 1]: g = 1 at first, then 4.

        Frames come in the dtype of the weights. If it fails half-way, the stream starts anew.
        """
        self._check(latent)
        past, self._past, self._latent = LayerCaches(self._past), [], ()
        weight = next(self.decoder.parameters())
        latent = latent.to(weight.device).contiguous(memory_format=LAST)
        frames = self.decoder.step(latent, past)
        self._past, self._latent = past.after, tuple(latent.shape)
        return frames

    def state(self) -> dict[str, Tensor]:
        """All that the next frames depend on, b g h w c, contiguous; empty before the first one.

        These are the stream's own tensors: keep them as they are, or copies.
        """
        past = (rearrange(x, "b c g h w -> b g h w c") for x in self._past)
        return {f"past.{number:02}": x for number, x in enumerate(past)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state`; an empty one starts anew. Another decoder's is a `UserError`."""
        self.reset()
        if not state:
            return
        found = {name: tuple(tensor.shape) for name, tensor in state.items()}
        b, h, w = 0, 0, 0
        if len(found.get("past.00", ())) == 5:  # the first layer sees frames of the latents' size
            b, _, h, w, _ = found["past.00"]
        shapes = self.decoder.past_shapes(b, h, w)
        wanted = {f"past.{number:02}": shape for number, shape in enumerate(shapes)}
        wrong = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
        if wrong:
            name = min(wrong)
            raise UserError(
                f"a decoder's state: {name} is {found.get(name, 'missing')}, expected "
                f"{wanted.get(name, 'no such entry')}; it was saved by another world"
            )
        weight = next(self.decoder.parameters())
        past = (state[name].to(weight.device, weight.dtype).contiguous() for name in wanted)
        self._past = [rearrange(x, "b g h w c -> b c g h w") for x in past]
        self._latent = (b, self.decoder.latent_channels, 1, h, w)

    def reset(self) -> None:
        """Forget everything: the next latent is the first of a new video."""
        self._past, self._latent = [], ()

    def _check(self, latent: Tensor) -> None:
        """Refuse what cannot be the next latent frame before it spoils the stream."""
        expected = self._latent or ("b", self.decoder.latent_channels, 1, "h", "w")
        if len(latent.shape) != 5 or any(
            isinstance(want, int) and want != have
            for want, have in zip(expected, latent.shape, strict=True)
        ):
            raise UserError(
                f"a latent frame of {' x '.join(map(str, latent.shape))}, expected "
                f"{' x '.join(map(str, expected))}"
            )
