"""What `worldmodel bench` plays of a Wan world: a size by name or an imported world, and how."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from worldmodel.config import UserError, load_config
from worldmodel.engine.torch_engine import DTYPES
from worldmodel.system.paths import list_files
from worldmodel.wan.float8 import holds_float8
from worldmodel.wan.layer_costs import remembered_bytes, working_bytes
from worldmodel.wan.model_config import WanConfig, WindowConfig
from worldmodel.wan.samplers import RECIPES, STEPS, warped_sigmas
from worldmodel.wan.taehv import Taehv
from worldmodel.wan.taehv_config import TAEW2_1, TaehvConfig
from worldmodel.wan.transformer_cost import memory
from worldmodel.wan.vae import WanVAE
from worldmodel.wan.vae_config import WAN21_VAE, VaeConfig
from worldmodel.wan.weight_files import read_tensors
from worldmodel.worlds.wan.world_file import TRANSFORMER, read_wan_world

ROWS, COLUMNS = 60, 104  # latents of 480 x 832 pixels
FRAME_WISE = WindowConfig(rows=ROWS, columns=COLUMNS)
WINDOWS = (6, 9, 21)


Autoencoder = TaehvConfig | VaeConfig


@dataclass(frozen=True, slots=True)
class PlayMemory:
    """Bytes of one session and what it is played with."""

    weights: int  # of the transformer
    cache: int  # its sinks' copies included
    text: int
    decoder: int  # weights, the encoder's that come with them included
    remembered: int  # by the decoder, from one latent frame to the next
    decoding: int  # for a moment, beside all else

    @property
    def kept(self) -> int:
        """All that stays between two frames."""
        return self.weights + self.cache + self.text + self.decoder + self.remembered


def kind_of(autoencoder: Autoencoder) -> Any:
    """The class that is made from such a config."""
    return Taehv if isinstance(autoencoder, TaehvConfig) else WanVAE


FEW_STEPS = {count: warped_sigmas(steps) for count, steps in STEPS.items()}  # of Wan's students


@dataclass(frozen=True, kw_only=True, slots=True)
class WanPlan:
    """What is measured: model, autoencoder, window, device."""

    config: WanConfig
    device: torch.device
    chunk: WindowConfig = FRAME_WISE  # drawn at once, and what is seen beside windows
    windows: tuple[int, ...] = WINDOWS
    steps: tuple[int, ...] = (1, 2, 4)
    frames_per_second: float = 16.0  # at which it is played: how often a player is heard
    dtype: str = "bfloat16"
    decoders: tuple[str, ...] = ("taehv", "vae")
    levels: dict[int, tuple[float, ...]] = field(default_factory=FEW_STEPS.copy)  # by their number
    float8: bool = False  # whether the transformer's matrices are
    taehv: TaehvConfig = TAEW2_1
    vae: VaeConfig = WAN21_VAE

    def __post_init__(self) -> None:
        for frames in self.windows:
            self.window(frames)  # refuses one that holds no whole chunk

    def window(self, frames: int) -> WindowConfig:
        """The window in which so many frames are seen."""
        actions = min(self.chunk.action_frames, frames)
        return replace(self.chunk, window_frames=frames, action_frames=actions)

    def autoencoder(self, decoder: str) -> Autoencoder:
        """The shape of a decoder's network, `taehv` or `vae`."""
        return self.taehv if decoder == "taehv" else self.vae

    def memory(self, frames: int, decoder: str) -> PlayMemory:
        """Bytes that playing takes, part by part."""
        number, window = DTYPES[self.dtype].itemsize, self.window(frames)
        transformer = memory(self.config, window, number, float8=self.float8)
        autoencoder = self.autoencoder(decoder)
        layers, size = autoencoder.decoder_layers, (window.rows, window.columns)
        with torch.device("meta"):
            network: nn.Module = kind_of(autoencoder)(autoencoder)
        return PlayMemory(
            weights=transformer.weights,
            cache=transformer.cache,
            text=transformer.text,
            decoder=number * sum(weight.numel() for weight in network.parameters()),
            remembered=remembered_bytes(layers, *size, number),
            decoding=working_bytes(layers, *size, number),
        )


def sizes_folder() -> Path:
    """Where the sizes of the known models lie."""
    beside_package = Path(__file__).parents[2] / "configs" / "wan"
    return beside_package if beside_package.is_dir() else Path("configs/wan")


def load_size(name: str, layers: int) -> WanConfig:
    """A known size by name, cut down to some layers if asked for."""
    path = sizes_folder() / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(other.stem for other in list_files(sizes_folder(), "*.toml")))
        known = known or "of a checkout's configs/wan, and this is none"
        raise UserError(f"--world {name}: --random-weights knows the sizes {known}")
    config = load_config(WanConfig, path)
    if not layers:
        return config
    actions = config.actions
    if actions is not None:
        actions = replace(actions, layers=tuple(n for n in actions.layers if n < layers))
    return replace(config, layers=layers, actions=actions)


def played_as_released(name: str, plan: WanPlan) -> WanPlan:
    """The plan for a size that has a recipe of its own: its chunk, window, steps and pixels."""
    fitting = (recipe for recipe in RECIPES.values() if recipe.fits(plan.config))
    recipe = RECIPES.get(name) or next(fitting, None)
    if recipe is None or plan.config.actions is None:
        return plan
    return replace(
        plan,
        chunk=recipe.window,
        windows=(recipe.window_frames,),
        frames_per_second=recipe.frames_per_second,
        steps=(len(recipe.steps),),
        levels={len(recipe.steps): recipe.sampler.sigmas},
    )


def plan_of(folder: Path, plan: WanPlan) -> WanPlan:
    """The plan for an imported world: its own sizes, window, chunk and kind of weights."""
    world = read_wan_world(folder)
    own: dict[str, Any] = {}
    if world.controls is not None:  # a student of one number of steps
        count = world.sampler.steps
        own = {"steps": (count,), "levels": {count: world.sampler.sigmas}}
    return replace(
        plan,
        config=world.transformer,
        chunk=world.window,
        windows=(world.window.window_frames,),
        **own,
        frames_per_second=world.frames_per_second,
        float8=holds_float8(read_tensors(folder / TRANSFORMER)),
        taehv=world.taehv,
        vae=world.vae,
    )


def choose_steps(steps: int) -> tuple[int, ...]:
    """One number of steps, or all that students were trained for."""
    if steps and steps not in STEPS:
        raise UserError(f"--steps {steps}: choose from {', '.join(map(str, sorted(STEPS)))}")
    return (steps,) if steps else tuple(sorted(STEPS))
