"""What Matrix-Game 2 and its students know of keys and mouse, as they were trained.

The order of keys is W, S, A, D. A row of the mouse is [up, right]; the demonstrations of all
variants turn by 0.1 a pixel frame. How many degrees that is has not been published: we take it for
5, a turn of 60 degrees a second.
"""

from dataclasses import dataclass, field

from worldmodel.action import ActionSpec
from worldmodel.config import UserError
from worldmodel.wan.model_config import ActionModuleConfig
from worldmodel.worlds.wan.world_file import ControlsConfig

STEP = 0.1  # of the mouse in a pixel frame
DEGREES = 50.0  # of travel that are 1: an assumption
LOOKING = {
    "KeyI": (STEP, 0.0),
    "KeyK": (-STEP, 0.0),
    "KeyJ": (0.0, -STEP),
    "KeyL": (0.0, STEP),
}
NAMES = {
    "KeyI": "look up", "KeyK": "look down", "KeyJ": "turn left", "KeyL": "turn right",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Controls:
    """Keys and mouse of one variant."""

    keys: tuple[tuple[str, str], ...]  # button and what it does, in the model's order
    idle: int = -1
    steering: dict[str, tuple[float, float]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)  # of the steering
    looks_up: bool = False


WALK = (
    ("KeyW", "forward"), ("KeyS", "back"), ("KeyA", "left"), ("KeyD", "right"),
)  # fmt: skip
FREE = Controls(keys=WALK, steering=LOOKING, names=NAMES, looks_up=True)
GTA = Controls(
    keys=(("KeyW", "forward"), ("KeyS", "back")),
    steering={"KeyA": (0.0, -STEP), "KeyD": (0.0, STEP)},
    names={"KeyA": "steer left", "KeyD": "steer right"},
)
TEMPLE_RUN = Controls(
    keys=(
        ("", "run on"),
        ("KeyW", "jump"),
        ("KeyS", "slide"),
        ("KeyZ", "turn left"),
        ("KeyC", "turn right"),
        ("KeyA", "to the left side"),
        ("KeyD", "to the right side"),
    ),
    idle=0,
)
# ForgeWM and the base model have two keys more, which no training data pressed.
SIX = Controls(keys=(*WALK, ("", ""), ("", "")), steering=LOOKING, names=NAMES, looks_up=True)
BY_KEYS = {4: FREE, 2: GTA, 7: TEMPLE_RUN, 6: SIX}

NOTICE = """\
The weights in this folder were converted from the files that CARD.md names; nothing was trained.

Matrix-Game 2 (github.com/SkyworkAI/Matrix-Game) publishes its code under MIT, its model card says
MIT for the weights and names Skywork/SkyReels-V2-I2V-1.3B-540P as their base; ForgeWM
(github.com/asdfo123/ForgeWM) publishes its code under Apache-2.0; Wan2.1
(github.com/Wan-Video/Wan2.1), with it the autoencoder and the image encoder's file, under
Apache-2.0; TAEHV (github.com/madebyollin/taehv) under MIT. The licence that was shown where the
weights were downloaded is the one that counts: keep it with this folder.
"""


def known_controls(actions: ActionModuleConfig, where: str) -> Controls:
    """What keys and mouse of a model with these sizes do; a `UserError` where nobody knows."""
    known = BY_KEYS.get(actions.keys)
    if known is None or actions.mouse != (2 if known.steering else 0):
        raise UserError(
            f"{where}: a model with {actions.keys} keys and {actions.mouse} numbers of the mouse; "
            f"expected {', '.join(map(str, sorted(BY_KEYS)))} keys and 2, with 7 keys none. What "
            "others do is not in their tensors; name a released file"
        )
    return known


def controls_of(
    actions: ActionModuleConfig, frames: int, where: str
) -> tuple[ControlsConfig, ActionSpec]:
    """How devices drive a model with these keys; `frames` are drawn together."""
    known = known_controls(actions, where)
    pressed = {button: name for button, name in known.keys if button} | known.names
    config = ControlsConfig(
        keys=tuple(button for button, _ in known.keys), idle=known.idle, steering=known.steering
    )
    spec = ActionSpec(
        buttons=tuple(pressed),
        names=tuple(pressed.values()),
        mouse_degrees=DEGREES,
        max_mouse_degrees=STEP * DEGREES,
        look_up_down=known.looks_up,
        look_left_right=bool(actions.mouse),
        frames=frames,
    )
    return config, spec
