"""What every row is measured with: one action reader, one set of real clips, one long play.

The inverse-dynamics model and the statistics of its features on real play are kept with the
figures, so that rows of different days, or of different people, were measured alike.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from worldmodel.config import ConfigError, UserError, require_positive
from worldmodel.data_sources.doom import Doom
from worldmodel.engine.torch_engine import DTYPES
from worldmodel.evaluation.drift import WINDOW, LongPlay, Play, record_long_play
from worldmodel.evaluation.inverse_dynamics import (
    InverseDynamics,
    features_of,
    train_inverse_dynamics,
)
from worldmodel.evaluation.quality import HORIZONS
from worldmodel.evaluation.reference_clips import Clips, game_of, record_clips
from worldmodel.metrics import Gaussian
from worldmodel.model.autoencoder import Autoencoder, channels_last
from worldmodel.storage.checkpoint import load_tensors, load_weights
from worldmodel.storage.save_tensors import save_tensors
from worldmodel.system.progress import through
from worldmodel.worlds.devices import choose_device, choose_dtype
from worldmodel.worlds.world_folder import AUTOENCODER, WorldFile, sha256_of

FORMAT = 2  # of the figures: a change of what they mean, or of what is drawn, changes every stamp
FILE = "yardstick.safetensors"
STRIDE = 12  # frames between two next frames of a clip; whole chunks of 1, 2, 3, 4, 6 or 12
PAST = 2 * STRIDE  # true frames before the first drawn one, for windows of any row
CLIP = PAST + -(-max(HORIZONS) // STRIDE) * STRIDE  # frames
INVERSE_DYNAMICS_FRAMES = 160
APART = 10_000  # seeds between the parts, as in `report`
MANY_STEPS = 8  # a row of more denoising steps plays long play for a shorter while


@dataclass(frozen=True, kw_only=True, slots=True)
class YardstickPlan:
    """How much to measure."""

    clips: int = 32
    drift_frames: int = 2000
    teacher_drift_frames: int = 400  # of rows with many steps
    streams: int = 2  # of each kind of long play
    seed: int = 2_000_000
    teacher_steps: int = 24
    inverse_dynamics_clips: int = 160
    inverse_dynamics_steps: int = 1200
    speed_frames: int = 96  # 0: no speed is measured
    unseen_clips: int = 32

    def __post_init__(self) -> None:
        require_positive(
            self, "streams", "teacher_steps", "inverse_dynamics_clips", "inverse_dynamics_steps"
        )
        if self.clips < 2:
            raise ConfigError(f"clips = {self.clips}: a spread over clips needs at least 2")

    def long_frames(self, steps: int) -> int:
        """Frames of long play for a row of so many denoising steps, whole windows."""
        wanted = self.teacher_drift_frames if steps > MANY_STEPS else self.drift_frames
        return min(wanted, self.drift_frames) // WINDOW * WINDOW


@dataclass(frozen=True, slots=True)
class ActionReader:
    """An inverse-dynamics model and the features it sees in real play."""

    model: InverseDynamics
    reference: Gaussian


@dataclass(frozen=True, slots=True)
class Yardstick:
    """All that a row is measured with."""

    world: WorldFile
    autoencoder: Autoencoder
    reader: ActionReader
    clips: Clips  # b CLIP
    long_plays: tuple[LongPlay, ...]
    plan: YardstickPlan


def play_dtype() -> torch.dtype:
    """What products are computed in: what play on this machine takes."""
    return DTYPES[choose_dtype("auto", choose_device("cpu"))]


def find_action_reader(folder: Path, world: WorldFile, plan: YardstickPlan) -> ActionReader:
    """The one that is kept in `folder`; if it is not there or of another plan, a new one."""
    path, header = folder / FILE, _facts(world, plan)
    shape = world.autoencoder
    if path.is_file():
        tensors, found = load_tensors(path)
        if found == header:
            mean, covariance = tensors.pop("mean"), tensors.pop("covariance")
            with torch.random.fork_rng(devices=[]):
                size = (shape.frame_height, shape.frame_width)
                model = InverseDynamics(len(world.actions.buttons), *size)
            try:
                model.load_state_dict(tensors)
            except RuntimeError as error:
                message = f"{path}: does not hold an action reader; delete it to train another"
                raise ConfigError(message) from error
            model.eval().requires_grad_(requires_grad=False)
            return ActionReader(model, Gaussian(mean.double(), covariance.double()))
    with Doom(game_of(world)) as game:
        lessons = record_clips(
            game,
            world.actions,
            plan.seed + 3 * APART,
            plan.inverse_dynamics_clips,
            INVERSE_DYNAMICS_FRAMES,
        )
    model = train_inverse_dynamics(lessons.pairs(), plan.inverse_dynamics_steps)
    seen = through(lessons.frames, desc="features of real play")
    reference = Gaussian.of(torch.cat([features_of(model, clip, stride=2) for clip in seen]))
    kept = {**model.state_dict(), **{k: v.float() for k, v in reference._asdict().items()}}
    save_tensors(path, kept, header)
    return find_action_reader(folder, world, plan)  # as any later session has it, rounding included


def stamp_of(folder: Path, world: WorldFile, plan: YardstickPlan) -> str:
    """Changes with whatever figures depend on besides the row; none before there is a reader."""
    path = folder / FILE
    if not path.is_file() or load_tensors(path)[1] != _facts(world, plan):
        return ""
    facts = [FORMAT, sha256_of(path), world.sha256[AUTOENCODER], str(play_dtype())]
    facts += [plan.clips, plan.streams, plan.seed, PAST, CLIP]
    return digest(facts)


def digest(facts: object) -> str:
    """A short name for anything that is JSON."""
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def make_yardstick(
    world_folder: Path, world: WorldFile, reader: ActionReader, plan: YardstickPlan
) -> Yardstick:
    """Play the real game: clips and long play on seeds that no training saw."""
    frames = plan.long_frames(1)
    plays: tuple[Play, ...] = ("idle", "random") if frames else ()
    with Doom(game_of(world)) as game:
        clips = record_clips(game, world.actions, plan.seed, plan.clips, CLIP)
        long_plays = [
            record_long_play(
                game, world.actions, play, frames, plan.seed + 4 * APART, PAST, plan.streams
            )
            for play in through(plays, desc="long play")
        ]
    autoencoder = load_decoder(world_folder, world).to(dtype=play_dtype())
    return Yardstick(world, autoencoder, reader, clips, tuple(long_plays), plan)


def load_decoder(world_folder: Path, world: WorldFile) -> Autoencoder:
    """The world's autoencoder, frozen, in fp32."""
    if world.autoencoder.plan is not None:
        raise UserError(
            f"{world_folder}: a world that knows its place cannot be the yardstick of a comparison "
            "yet; `worldmodel evaluate --world` measures it"
        )
    autoencoder = Autoencoder(world.autoencoder)
    load_weights(autoencoder, world_folder / AUTOENCODER)
    autoencoder.requires_grad_(requires_grad=False).eval()
    return channels_last(autoencoder)


def _facts(world: WorldFile, plan: YardstickPlan) -> dict[str, object]:
    """What an action reader depends on, under the names that kept files have."""
    shape = world.autoencoder
    return {
        "judge_clips": plan.inverse_dynamics_clips,
        "judge_steps": plan.inverse_dynamics_steps,
        "seed": plan.seed,
        "streams": FORMAT,  # how clips, weights and batches are drawn from it
        "frame": [shape.frame_height, shape.frame_width],
        "game": json.dumps(world.game, sort_keys=True),
        "actions": json.dumps(asdict(world.actions), sort_keys=True),
    }
