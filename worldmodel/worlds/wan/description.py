"""What an imported world is described as: its file, and the card for people."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from worldmodel.action import ActionSpec
from worldmodel.config import UserError
from worldmodel.system.printable import shown
from worldmodel.wan.model_config import WanConfig
from worldmodel.wan.samplers import RECIPES, ReleasedSampler
from worldmodel.worlds.wan.found_parts import FoundParts, ImportPlan
from worldmodel.worlds.wan.matrix_game import controls_of, known_controls
from worldmodel.worlds.wan.world_file import (
    BACKEND,
    FORMAT,
    TRANSFORMER,
    CameraConfig,
    ControlsConfig,
    PromptsConfig,
    WanWorldFile,
)

# Training intrinsics of minWM and its motions, one latent frame each: 0.08 units, 3 degrees.
MINWM_CAMERA = CameraConfig(
    focal=(0.5050505, 0.89786756),
    motions={
        "KeyW": (0.0, 0.0, 0.08, 0.0, 0.0),
        "KeyS": (0.0, 0.0, -0.08, 0.0, 0.0),
        "KeyA": (-0.08, 0.0, 0.0, 0.0, 0.0),
        "KeyD": (0.08, 0.0, 0.0, 0.0, 0.0),
        "KeyJ": (0.0, 0.0, 0.0, -3.0, 0.0),
        "KeyL": (0.0, 0.0, 0.0, 3.0, 0.0),
        "KeyI": (0.0, 0.0, 0.0, 0.0, 3.0),
        "KeyK": (0.0, 0.0, 0.0, 0.0, -3.0),
    },
)
MINWM_NAMES = (
    "forward", "back", "left", "right", "turn left", "turn right", "look up", "look down"
)  # fmt: skip


def choose_recipe(
    config: WanConfig, wanted: str | None, networks: Sequence[str] = (), where: str = "FILE"
) -> tuple[str, ReleasedSampler]:
    """The recipe that was named; else the only one that fits the tensors of the file `where`, or of
    several the only one whose files hold just these `networks`.
    """
    fitting = {name: r for name, r in RECIPES.items() if r.fits(config)}
    likely = [(name, recipe) for name, recipe in fitting.items() if not recipe.is_other]
    if not fitting and config.actions is not None:  # in layers of its own: only a person knows
        keys = config.actions.keys
        fitting = {name: r for name, r in RECIPES.items() if r.keys == keys}
    if not fitting:
        raise UserError(
            f"{where}: its tensors are those of an image-to-video model without keys or mouse; of "
            "those only Matrix-Game 2 and its students are played"
        )
    if len(likely) > 1:
        told = [(name, recipe) for name, recipe in likely if recipe.networks]
        likely = [one for one in told if one[1].networks == tuple(networks)]
    if wanted is None and len(likely) == 1:
        return likely[0]
    choices = "; ".join(f"{name} ({recipe.about})" for name, recipe in fitting.items())
    if wanted is None:
        raise UserError(
            f"{where}: its tensors do not say which kind of model it is; say it: worldmodel import "
            f"{where} … --to WORLD --recipe NAME, with one of these names: {choices}"
        )
    if wanted not in fitting:
        raise UserError(
            f"{where}: --recipe {wanted}: for these tensors{_told(config)} there are: {choices}"
        )
    return wanted, fitting[wanted]


def _told(config: WanConfig) -> str:
    """By what variants of Matrix-Game 2 are told apart."""
    if config.actions is None:
        return ""
    keys, mouse, layers = config.actions.keys, config.actions.mouse, config.actions.layers
    return f" ({keys} keys, {mouse} numbers of the mouse, {len(layers)} layers that read them)"


def alike(world: WanWorldFile) -> str:
    """What else a world's tensors could be, or "": so that a wrong --recipe is not silent."""
    kinds = {name: r for name, r in RECIPES.items() if not r.is_other and r.fits(world.transformer)}
    others = [f"{name} ({r.about})" for name, r in kinds.items() if name != world.recipe]
    if world.recipe not in kinds or not others:
        return ""
    return (
        f"Its tensors could also be those of {', '.join(others)}: that it is {world.recipe} was "
        "named, or told by what else its file held. If that is wrong, import the file again."
    )


def new_world(
    config: WanConfig,
    name: str,
    plan: ImportPlan,
    networks: Sequence[str] = (),
    where: str = "FILE",
) -> WanWorldFile:
    """A world's description for a transformer of these sizes, out of the file `where`, which holds
    these networks.
    """
    if config.actions is not None:
        known_controls(config.actions, where)
    recipe_name, recipe = choose_recipe(config, plan.recipe, networks, where)
    scale = plan.vae.frames_per_latent
    frames = recipe.chunk_frames * scale
    controls: ControlsConfig | None = None
    if config.actions is not None:
        if plan.openings or plan.keys or plan.text_encoder:
            raise UserError(
                f"{name}: its model reads a picture and no words: no --prompt, no --key"
            )
        controls, actions = controls_of(config.actions, frames, where)
    else:
        actions = _spoken(config, plan, frames)
    return WanWorldFile(
        format=FORMAT,
        name=name,
        title=plan.title or f"{recipe_name}, {recipe.about}",
        licence="see NOTICE",
        backend=BACKEND,
        recipe=recipe_name,
        frames_per_second=recipe.frames_per_second,
        sampler=recipe.sampler,
        first_sampler=recipe.first_sampler,
        transformer=config,
        window=replace(
            recipe.window,
            rows=plan.rows or recipe.rows,
            columns=plan.columns or recipe.columns,
        ),
        actions=actions,
        controls=controls,
        prompts=PromptsConfig(
            opening=plan.openings, keys=dict(plan.keys), text_encoder=plan.text_encoder
        ),
        camera=MINWM_CAMERA if config.cameras else None,
        taehv=plan.taehv,
        vae=plan.vae,
    )


def _spoken(config: WanConfig, plan: ImportPlan, frames: int) -> ActionSpec:
    """The actions of a world that is given words, and of its camera if it has one."""
    buttons = (*MINWM_CAMERA.motions,) if config.cameras else ()
    names = MINWM_NAMES if config.cameras else ()
    return ActionSpec(
        buttons=(*buttons, *plan.keys),
        names=(*names, *plan.keys.values()),
        mouse_degrees=1.0,
        # 3 degrees a latent frame is the fastest turn in training.
        max_mouse_degrees=3.0 / plan.vae.frames_per_latent,
        look_up_down=config.cameras,
        look_left_right=config.cameras,
        prompts=True,
        frames=frames,
    )


def describe_world(
    parts: FoundParts, name: str, plan: ImportPlan, there: WanWorldFile | None
) -> WanWorldFile:
    """The world that these parts make, or that they are added to."""
    if parts.config is not None:
        world = new_world(parts.config, name, plan, parts.networks, parts.where)
        if there is None:
            return replace(world, source=parts.source)
        return replace(
            world,
            sha256={name: x for name, x in there.sha256.items() if name != TRANSFORMER},
            stamps={name: x for name, x in there.stamps.items() if name != TRANSFORMER},
            source={**there.source, **parts.source},
        )
    assert there is not None
    if plan.recipe not in (None, there.recipe):
        raise UserError(
            f"--recipe {plan.recipe}: {there.name} has the recipe {there.recipe}; name the "
            "transformer's file as well to change it"
        )
    return _with_more(there, plan, {**there.source, **parts.source})


def _with_more(there: WanWorldFile, plan: ImportPlan, source: dict[str, Any]) -> WanWorldFile:
    """A world that is there, with the title, openings, keys and encoder that were named now."""
    prompts = there.prompts
    if there.controls and (plan.openings or plan.keys or plan.text_encoder):
        raise UserError(
            f"{there.name}: its model reads a picture and no words: no --prompt, no --key"
        )
    if taken := [k for k in plan.keys if k in there.actions.buttons and k not in prompts.keys]:
        raise UserError(f"--key {taken[0]}: this key moves the camera of {there.name}")
    keys = {**prompts.keys, **plan.keys}
    named = dict(zip(there.actions.buttons, there.actions.names, strict=True)) | keys
    return replace(
        there,
        title=plan.title or there.title,
        prompts=replace(
            prompts,
            opening=plan.openings or prompts.opening,
            keys=keys,
            text_encoder=plan.text_encoder or prompts.text_encoder,
        ),
        actions=replace(there.actions, buttons=tuple(named), names=tuple(named.values())),
        source=source,
    )


def sources_of(world: WanWorldFile) -> list[str]:
    """The files that a world was made of, a line each, as its file has them."""
    lines = []
    for kind, what in world.source.items():
        table = what if isinstance(what, Mapping) else {"file": shown(what)}
        lines.append(", ".join((f"{kind}: {table.get('file')}", str(table.get("tensors", "")))))
    return lines


def _card_controls(world: WanWorldFile) -> list[str]:
    """What the keys do; nothing where words steer."""
    if world.controls is None:
        return []
    pairs = zip(world.actions.buttons, world.actions.names, strict=True)
    mouse = "" if not world.actions.uses_mouse else (
        f" A row of the mouse, [up, right], is its travel in units of "
        f"{world.actions.mouse_degrees:g} degrees, which is an assumption."
    )  # fmt: skip
    keys = ", ".join(button or "none" for button in world.controls.keys)
    return [
        f"Keys: {'; '.join(f'{button} {name}' for button, name in pairs)}. The model's own, in its "
        f"order: {keys}. What is done while a chunk is shown makes all rows of the next.{mouse}",
        "",
    ]


def card(world: WanWorldFile) -> str:
    """What the world is, for people."""
    window, config = world.window, world.transformer
    rows, columns = world.frame_size
    actions = window.action_frames
    apart = f", {actions} of keys and mouse" if actions not in (0, window.window_frames) else ""
    lines = [
        f"# {world.title}",
        "",
        f"{columns} x {rows} at {world.frames_per_second:g} frames/s; width {config.width}, "
        f"{config.layers} layers, {config.heads} heads; {world.actions.frames} frames are drawn "
        f"together from one action; window {window.window_frames}{apart} and "
        f"{window.sink_frames} sinks, in latent frames.",
        "",
        *_card_controls(world),
        *((alike(world), "") if alike(world) else ()),
        f"Noise levels: {', '.join(f'{s:.4g}' for s in world.sampler.sigmas)}; of the first chunk: "
        f"{', '.join(f'{s:.4g}' for s in world.first_sampler.sigmas)}.",
        "",
        "Imported from:",
        *(f"- {line}" for line in sources_of(world)),
        "",
    ]
    return "\n".join(lines)
