"""The reference implementations' numbers (golden/README.md), and our models made like theirs."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from worldmodel.model.configs import SamplerConfig
from worldmodel.wan.model_config import WanConfig, WindowConfig
from worldmodel.wan.samplers import warped_sigmas
from worldmodel.wan.transformer import WanTransformer
from worldmodel.wan.wan_rollout import Noise

GOLDEN = Path(__file__).parent / "golden"


@dataclass(frozen=True, slots=True)
class Case:
    """One rollout that the reference pipeline made."""

    frames: int
    steps: list[int]
    first: list[int]
    window: int
    block: int
    image: bool

    @property
    def window_config(self) -> WindowConfig:
        whole_blocks = self.window - self.window % self.block
        return WindowConfig(rows=4, columns=6, chunk_frames=self.block, window_frames=whole_blocks)

    @property
    def samplers(self) -> tuple[SamplerConfig, SamplerConfig]:
        sigmas = (warped_sigmas(steps) for steps in (self.steps, self.first))
        first, second = (SamplerConfig(sigmas=s, renoise=True) for s in sigmas)
        return first, second

    def noise(self, tensors: dict[str, Tensor]) -> Noise:
        """Noise as the reference drew it: the first of each block in advance, the rest in turn."""
        n, again = self.block, tensors["renoise"]
        fresh = iter(tensors["noise"].split(n, dim=1))
        rest = iter([again[i : i + n][None] for i in range(0, 40 - n, n)])
        draws: list[Callable[[], Tensor]] = []
        for b in range(self.frames // n):
            steps = self.steps if b else self.first
            draws += [lambda: next(fresh), *[lambda: next(rest)] * (len(steps) - 1)]
        order = iter(draws)
        return lambda _: next(order)()


def load(name: str) -> tuple[dict[str, Tensor], dict[str, Case], WanTransformer]:
    """Tensors, cases by name and our model with the reference's weights."""
    with safe_open(GOLDEN / f"{name}.safetensors", framework="pt") as file:
        header: dict[str, str] = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # no dict
    cases: dict[str, Any] = json.loads(header["cases"])
    weights = {k.removeprefix("weights."): v for k, v in tensors.items() if "weights." in k}
    config = WanConfig(
        width=32,
        heads=2,
        layers=2,
        feed_forward=48,
        text_width=12,
        text_tokens=8,
        time_features=16,
        latent_channels=4,
        cameras=name == "minwm",
    )
    model = WanTransformer(config).eval().requires_grad_(requires_grad=False)
    model.load_state_dict(weights)
    return tensors, {key: Case(**case) for key, case in cases.items()}, model
