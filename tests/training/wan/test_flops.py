"""What stages cost on fake tensors is what is counted when they run on real ones."""

import gc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from worldmodel.__main__ import main
from worldmodel.config import to_toml
from worldmodel.model.configs import SamplerConfig
from worldmodel.model.counting import ON_CPUS, count
from worldmodel.training.processes import checkpoint_blocks
from worldmodel.training.run_stage import read_stage
from worldmodel.training.stage import LoopConfig
from worldmodel.training.wan.costs import (
    Pass,
    batch_cost,
    fake_conditions,
    packed,
    pass_cost,
    rollout,
    whole_clip,
)
from worldmodel.training.wan.estimate import memory, trained_parameters
from worldmodel.training.wan.forward import Conditions
from worldmodel.training.wan.load_weights import make_student
from worldmodel.training.wan.stage_config import (
    WanBidirectionalTraining,
    WanClips,
    WanDmdTraining,
    WanModel,
    WanTeacherTraining,
    WanTraining,
)
from worldmodel.wan.lora import LoraConfig
from worldmodel.wan.model_config import ActionModuleConfig, PictureConfig, WanConfig
from worldmodel.wan.transformer import WanTransformer

CONFIGS = Path(__file__).parents[3] / "configs"
LORA = LoraConfig(rank=4, alpha=4.0)
SIZE = WanConfig(
    width=128,
    heads=2,
    layers=2,
    feed_forward=512,
    text_width=32,
    text_tokens=16,
    time_features=32,
)
FRAMES = 5
TWO = SamplerConfig(sigmas=(1.0, 0.5, 0.0), renoise=True)


def config_of(folder: Path, stage: str, size: WanConfig, **loop: object) -> WanTraining:
    (folder / "size.toml").write_text(to_toml(size), encoding="utf-8")
    model = WanModel(
        kind="wan", size=folder / "size.toml", rows=8, columns=16, window_frames=3, sink_frames=1
    )
    common = {
        "data": folder,
        "model": model,
        "clips": WanClips(batch=1, frames=FRAMES),
        "loop": replace(LoopConfig(steps=1, learning_rate=1e-3), **loop),  # type: ignore[arg-type]  # of the test
    }
    if stage == "dmd":
        return WanDmdTraining(
            stage="dmd", student=folder, real=folder, sampler=TWO, critic_learning_rate=1.0,
            **common,  # type: ignore[arg-type]  # of the test
        )  # fmt: skip
    kind = {"teacher": WanTeacherTraining, "bidirectional": WanBidirectionalTraining}[stage]
    found = kind(stage=stage, start=folder, **common)
    assert isinstance(found, WanTraining)
    return found


def first_exit(config: WanTraining, model: WanTransformer, given: Conditions) -> Tensor:
    """Play whose every chunk is done after one step."""
    assert isinstance(config, WanDmdTraining)
    return rollout(config, 0, model, given)


MOUSE = ActionModuleConfig(layers=(1,), keys=4, mouse=2, key_width=32, heads=4)
KEYS = replace(MOUSE, mouse=0)
PICTURE = PictureConfig(width=48, tokens=9)
RUNS = {"teacher": packed, "bidirectional": whole_clip, "dmd": first_exit}


def size_of(
    actions: ActionModuleConfig | None, layers: int = 2, *, cameras: bool = False
) -> WanConfig:
    if actions is None:
        return replace(SIZE, layers=layers, cameras=cameras)
    return replace(SIZE, layers=layers, text_width=0, picture=PICTURE, actions=actions)


def step_of(config: WanTraining, stage: str, size: WanConfig) -> Callable[[], Tensor]:
    """A real network, and one forward pass of a stage over tensors with numbers."""
    model = make_student(WanTransformer(size), config.lora, seed=0)
    given = fake_conditions(size, config.model.window, FRAMES)
    if config.loop.checkpointing:
        checkpoint_blocks(model)
    return lambda: RUNS[stage](config, model, given)


@pytest.mark.parametrize(
    ("stage", "lora", "actions"),
    [
        ("teacher", LORA, None),
        ("teacher", None, MOUSE),
        ("bidirectional", None, KEYS),
        ("dmd", None, MOUSE),
    ],
)
def test_operations_of_all_layers_follow_from_those_of_one_and_two(
    stage: str, lora: LoraConfig | None, actions: ActionModuleConfig | None, tmp_path: Path
) -> None:
    """Counted by torch on real tensors, forward and backward, of a network of four layers."""
    size = size_of(actions and replace(actions, layers=(1, 3)), 4, cameras=actions is None)
    config = replace(config_of(tmp_path, stage, size), lora=lora)
    counter = FlopCounterMode(display=False, custom_mapping=ON_CPUS)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION), counter:
        step_of(config, stage, size)().sum().backward()
    cost = pass_cost(config, size, partial(RUNS[stage], config), trains=True)
    assert cost.flops == counter.get_total_flops()


@pytest.mark.parametrize(
    ("stage", "dtype", "checkpointing", "lora", "actions"),
    [
        ("teacher", "float32", False, None, None),
        ("teacher", "bfloat16", True, None, MOUSE),
        ("bidirectional", "bfloat16", True, LORA, None),
        ("dmd", "bfloat16", False, LORA, None),
        ("dmd", "bfloat16", True, None, MOUSE),
    ],
)
def test_memory(
    stage: str,
    dtype: str,
    checkpointing: bool,
    lora: LoraConfig | None,
    actions: ActionModuleConfig | None,
    tmp_path: Path,
) -> None:
    """The most that lives at once in real forward and backward passes of four layers."""
    size = size_of(actions and replace(actions, layers=(0, 2)), 4)
    config = config_of(tmp_path, stage, size, dtype=dtype, checkpointing=checkpointing)
    config = replace(config, lora=lora)
    run = step_of(config, stage, size)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            out = run()
        out.square().mean().backward()

    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        step()  # the gradients are there, as in all batches of a step but the first
        gc.collect()
        found = count(step).peak_bytes
    expected = pass_cost(config, size, partial(RUNS[stage], config), trains=True).peak_bytes
    assert 0.9 < found / expected < 1.05  # so small, the ends of the network weigh


def test_states_by_formula_are_states_counted(tmp_path: Path) -> None:
    """Weights, gradients, AdamW and the average, for all weights and for LoRA."""
    for lora in (None, LORA):
        config = replace(config_of(tmp_path, "teacher", SIZE), lora=lora)
        batch = batch_cost(config)
        need = memory(config, batch)
        model = make_student(WanTransformer(SIZE), lora, seed=0)
        learned = [p for p in model.parameters() if p.requires_grad]
        assert sum(p.nbytes for p in model.parameters()) == need.weights
        assert sum(p.nbytes for p in learned) == need.gradients == need.average
        assert 2 * need.gradients == need.optimizer
        assert sum(p.numel() for p in learned) == trained_parameters(SIZE, lora)
        several = memory(config, batch, gpus=4)
        assert several.optimizer == need.optimizer // 4
        assert several.activations == need.activations


def test_a_batch_of_dmd_is_the_mean_of_both_players(tmp_path: Path) -> None:
    """Six passes of a step's plays, counted one by one at every exit."""
    three = SamplerConfig(sigmas=(1.0, 0.7, 0.4, 0.0), renoise=True)
    config = config_of(tmp_path, "dmd", SIZE)
    assert isinstance(config, WanDmdTraining)
    config = replace(config, sampler=three, critic_updates=2, clips=WanClips(batch=1, frames=1))

    def of(run: Pass, *, trains: bool = False) -> int:
        return pass_cost(config, SIZE, run, trains=trains).flops

    whole = partial(whole_clip, config)
    exits = [partial(rollout, config, leave) for leave in range(3)]
    plays = sum(map(of, exits)) / 3
    students = sum(of(play, trains=True) for play in exits) / 3
    expected = (2 * (plays + of(whole, trains=True)) + students + 3 * of(whole)) / 3
    assert batch_cost(config).flops == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["wan-1.3b/bidirectional", "matrix-game2/teacher"])
def test_the_shipped_configs_are_estimated(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(CONFIGS.parent)
    assert main(["train", f"configs/{name}.toml", "--estimate"]) == 0
    said = capsys.readouterr().out
    assert "expected, not measured" in said
    rows = [line.split() for line in said.splitlines() if line.startswith(("full ", "LoRA 32 "))]
    assert [row[-6] for row in rows] == ["1", "4", "8"] * 2
    each = [[float(cell) for cell in row[-5:]] for row in rows]  # GB, activations, PFLOP, s, hours
    assert each[0][0] > each[1][0] > each[2][0] > each[2][1] > 1
    assert each[3][0] < each[0][0]
    assert each[0][3] == pytest.approx(8 * each[2][3], rel=0.01)
    config = read_stage(CONFIGS / f"{name}.toml")
    assert isinstance(config, WanTraining)
    parameters_and_states = 20e9 * 1.489 if "wan" in name else 20e9 * 1.619
    assert each[0][0] * 1e9 > parameters_and_states


@pytest.mark.parametrize("name", ["wan-1.3b", "matrix-game2"])
def test_every_shipped_config_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIGS.parent)
    paths = set((CONFIGS / name).glob("*.toml"))
    stages = paths - {CONFIGS / name / "shared.toml"}  # what the others are `like`
    assert len(stages) == len(paths) - 1
    for path in stages:
        read_stage(path)
    assert main(["train", "configs/doom/teacher.toml", "--estimate"]) == 2
