"""A Wan world on disk. Nothing in it is ever executed.

Beside `world.toml`, which is a `WanWorldFile`:

    transformer.safetensors
    taehv.safetensors  vae.safetensors    decoders: one of them or both; the faster one decodes
    prompts.safetensors                   embeddings of prompts: play needs no text encoder
    pictures.safetensors                  encoded pictures that an image-to-video world begins with
    image_encoder.safetensors             for any other picture, with the VAE
    CARD.md  NOTICE                       what it is and where it came from; licences
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worldmodel.action import ActionSpec
from worldmodel.config import ConfigError, build_config, read_toml
from worldmodel.model.configs import SamplerConfig, require_played
from worldmodel.storage.files import check_inside, is_file
from worldmodel.system.limits import LARGEST_WAN_STEP, LONGEST_PROMPT, MOST_SAID
from worldmodel.system.printable import printable, shown
from worldmodel.wan.layer_costs import working_bytes
from worldmodel.wan.model_config import WanConfig, WindowConfig
from worldmodel.wan.taehv_config import TAEW2_1, TaehvConfig
from worldmodel.wan.vae_config import WAN21_VAE, VaeConfig
from worldmodel.worlds.world_folder import (
    WORLD_FILE,
    WorldError,
    check_names,
    check_part,
    check_texts,
    stamp_of,
)

FORMAT = 1
BACKEND = "wan"
CAPTION = 60  # characters of a prompt that name a start
TRANSFORMER = "transformer.safetensors"
TAEHV = "taehv.safetensors"
VAE = "vae.safetensors"
PROMPTS = "prompts.safetensors"
PICTURES = "pictures.safetensors"
IMAGE_ENCODER = "image_encoder.safetensors"
PARTS = (TRANSFORMER, TAEHV, VAE, PROMPTS, PICTURES, IMAGE_ENCODER)
STRONGEST = 100.0  # a number of the mouse; those of training are below 1


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraConfig:
    """How devices drive the camera. Mouse travel turns it by as many degrees."""

    focal: tuple[float, float]  # fx, fy in widths and heights of the frame
    # Held button -> motion of one latent frame: right, down, forward (units), yaw right, pitch up
    # (degrees). Buttons held together add up.
    motions: dict[str, tuple[float, float, float, float, float]]

    def __post_init__(self) -> None:
        if not all(1e-3 <= length <= 1e3 for length in self.focal):
            raise ConfigError(f"focal {list(self.focal)} must be from 0.001 to 1000")
        if fast := [key for key, motion in self.motions.items() if max(map(abs, motion)) > 1e4]:
            raise ConfigError(f"motions of {shown(fast[0])}: each number must be at most 10 000")


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlsConfig:
    """How devices become a model's rows of keys and mouse, one row a pixel frame.

    What is done while a chunk is shown makes all rows of the next chunk: a button that was down at
    all is down in each of them, mouse travel is spread over them. A row of the mouse is [up,
    right], and `actions.mouse_degrees` of travel are 1.
    """

    keys: tuple[str, ...]  # the button of each key, in the model's order; "": nothing presses it
    idle: int = -1  # of a model whose keys are one-hot: the key that is 1 while no other is
    steering: dict[str, tuple[float, float]] = field(default_factory=dict)  # held button -> row

    def __post_init__(self) -> None:
        if not -1 <= self.idle < len(self.keys):
            raise ConfigError(f"idle = {self.idle}: there are {len(self.keys)} keys, from 0; or -1")
        if strong := [key for key, row in self.steering.items() if max(map(abs, row)) > STRONGEST]:
            raise ConfigError(
                f"steering of {shown(strong[0])}: each number must be at most {STRONGEST:g}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptsConfig:
    """What is said to the world. A text that begins with "+" is said after the opening one."""

    opening: tuple[str, ...] = ()  # each is a start
    keys: dict[str, str] = field(default_factory=dict)  # button -> text
    renew: bool = False  # whether a button's text also renews what is remembered
    text_encoder: str = ""  # the encoder's file of weights, for any other text

    def __post_init__(self) -> None:
        count = max(1, len(self.opening)) * (1 + len(self.keys))
        if count > MOST_SAID:
            raise ConfigError(f"{count} texts of openings and keys together, at most {MOST_SAID}")
        for text in (*self.opening, *self.keys.values()):
            if len(text) > LONGEST_PROMPT or "\0" in text:
                raise ConfigError(f"the text {shown(text)} may have {LONGEST_PROMPT} letters")

    def full(self, text: str, opening: str) -> str:
        """A text as the encoder gets it."""
        return f"{opening} {text[1:].strip()}".strip() if text.startswith("+") else text

    def all_texts(self) -> list[str]:
        """Everything that is said without typing, each once."""
        openings = self.opening or ("",)
        keys = [self.full(text, opening) for opening in openings for text in self.keys.values()]
        return list(dict.fromkeys(text for text in (*openings, *keys) if text))


@dataclass(frozen=True, kw_only=True, slots=True)
class WanWorldFile:
    """Everything in `world.toml` of a world with the `wan` backend."""

    format: int
    name: str
    title: str
    licence: str
    backend: str
    recipe: str
    frames_per_second: float
    sampler: SamplerConfig
    first_sampler: SamplerConfig
    transformer: WanConfig
    window: WindowConfig
    actions: ActionSpec
    prompts: PromptsConfig = PromptsConfig()
    camera: CameraConfig | None = None
    controls: ControlsConfig | None = None
    start_pictures: tuple[str, ...] = ()  # names of the encoded pictures, each a start
    taehv: TaehvConfig = TAEW2_1
    vae: VaeConfig = WAN21_VAE
    sha256: dict[str, str] = field(default_factory=dict)
    stamps: dict[str, str] = field(default_factory=dict)  # of the files when sha256 was taken
    source: dict[str, Any] = field(default_factory=dict)  # the files it was imported from

    def __post_init__(self) -> None:
        require_played(self.frames_per_second, self.sampler, self.first_sampler)
        check_texts(self.title, self.licence, self.recipe, *self.start_pictures)
        if self.format != FORMAT:
            raise ConfigError(
                f"format = {self.format}: this version reads format {FORMAT} of Wan worlds"
            )
        check_names(self.name)
        self.window.tokens(self.transformer)
        self._check_decoders()
        if self.transformer.cameras and self.camera is None:
            raise ConfigError("the transformer has cameras, so [camera] must say what moves them")
        self._check_controls()
        known = {*(self.camera.motions if self.camera else ()), *self.prompts.keys}
        if self.controls is not None:
            known |= {*filter(None, self.controls.keys), *self.controls.steering}
        if unknown := known - set(self.actions.buttons):
            raise ConfigError(
                f"actions.buttons lacks {sorted(unknown)}, which move the camera, press a key of "
                "the model or say a prompt"
            )

    def _check_controls(self) -> None:
        """Refuse an image-to-video world whose devices do not fit its model."""
        if len(self.start_pictures) > MOST_SAID:
            raise ConfigError(f"{len(self.start_pictures)} start_pictures, at most {MOST_SAID}")
        model, controls = self.transformer.actions, self.controls
        if (model is None) != (controls is None) or (model is None) != (not self._has_picture):
            raise ConfigError(
                "[controls], [transformer.actions] and [transformer.picture] are of one kind of "
                "world, which has them all"
            )
        if model is None or controls is None:
            return
        if len(controls.keys) != model.keys:
            raise ConfigError(
                f"controls.keys names {len(controls.keys)} keys, the transformer has {model.keys}"
            )
        if model.mouse not in (0, 2) or (controls.steering and not model.mouse):
            raise ConfigError(
                f"the transformer knows {model.mouse} numbers of the mouse; expected 2, up and "
                "right, or none and no controls.steering"
            )
        if model.rows_per_latent != self.vae.frames_per_latent:
            raise ConfigError(
                f"{model.rows_per_latent} rows of actions a latent frame, which shows "
                f"{self.vae.frames_per_latent} frames"
            )
        if self.prompts.opening or self.prompts.keys or self.actions.prompts:
            raise ConfigError("[prompts]: this world reads a picture and no words")

    def _check_decoders(self) -> None:
        """Refuse decoders of another kind of latents, and pictures that no memory holds."""
        channels = self.transformer.latent_channels
        for name, config in (("taehv", self.taehv), ("vae", self.vae)):
            if config.latent_channels != channels:
                raise ConfigError(
                    f"{name}: decodes {config.latent_channels} latent channels, the transformer "
                    f"draws {channels}"
                )
        if self.taehv.pixels_per_latent != self.vae.pixels_per_latent:
            raise ConfigError(
                f"vae and taehv differ in the size of a latent: {self.vae.pixels_per_latent} and "
                f"{self.taehv.pixels_per_latent} pixels"
            )
        rows, columns = self.window.rows, self.window.columns
        decoders = self.vae, self.taehv
        needed = max(working_bytes(each.decoder_layers, rows, columns, 4) for each in decoders)
        if needed > LARGEST_WAN_STEP:
            raise ConfigError(
                f"latents of {rows} x {columns}: decoding takes {needed >> 30} GB, at most "
                f"{LARGEST_WAN_STEP >> 30} are allowed"
            )

    @property
    def _has_picture(self) -> bool:
        return self.transformer.picture is not None

    @property
    def captions(self) -> list[str]:
        """What is said first at each place to begin at, or the picture's name."""
        if self._has_picture:
            return list(self.start_pictures)
        return [caption(text) for text in self.prompts.opening or ("",)]

    @property
    def pictures(self) -> list[None]:
        """None: a start is words, or a picture that is kept encoded."""
        return [None] * len(self.captions)

    @property
    def frame_size(self) -> tuple[int, int]:
        """Rows and columns of pixels."""
        scale = self.vae.pixels_per_latent
        return self.window.rows * scale, self.window.columns * scale


def caption(text: str) -> str:
    """A prompt as the name of a start."""
    short = text if len(text) <= CAPTION else f"{text[: CAPTION - 1]}…"
    return printable(short) or "no prompt"


def check_files(folder: Path, world: WanWorldFile) -> None:
    """Tell of a file that is not the one `world.toml` speaks of.

    Gigabytes are not hashed at every start: only a file that was touched or copied since is.
    """
    for name in PARTS:
        path = folder / name
        if not is_file(path):
            continue  # whether all that is needed is there is seen when it is loaded
        check_inside(path, folder)
        if name in world.sha256 and stamp_of(path) != world.stamps.get(name):
            check_part(folder, world, name)


def read_wan_world(folder: Path) -> WanWorldFile:
    """Read and check `world.toml`; weights are checked when they are loaded."""
    path = folder / WORLD_FILE
    if not is_file(path):
        raise WorldError(f"{folder}: not a world (no {WORLD_FILE} in it)")
    return build_config(WanWorldFile, read_toml(path), str(path))
