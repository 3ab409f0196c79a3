"""What stages cost by formula is what is counted when they run."""

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.wan.memory import peak_bytes
from worldmodel.__main__ import main
from worldmodel.config import to_toml
from worldmodel.model.configs import SamplerConfig
from worldmodel.training.processes import checkpoint_blocks
from worldmodel.training.run_stage import read_stage
from worldmodel.training.self_play import Exit
from worldmodel.training.stage import LoopConfig
from worldmodel.training.wan.estimate import estimate
from worldmodel.training.wan.flops import packed_pass, rollout_pass, stage_flops, whole_pass
from worldmodel.training.wan.forward import Conditions, WanClip, packed_velocity, whole_velocity
from worldmodel.training.wan.load_weights import make_student
from worldmodel.training.wan.memory import memory, played, trained_parameters
from worldmodel.training.wan.self_play import self_play
from worldmodel.training.wan.stage_config import (
    WanBidirectionalTraining,
    WanClips,
    WanDmdTraining,
    WanModel,
    WanTeacherTraining,
    WanTraining,
)
from worldmodel.wan.camera import no_cameras
from worldmodel.wan.kv_cache import FrameConditions
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


def pass_of(
    config: WanTraining, model: WanTransformer, stage: str, told: Conditions | None = None
) -> Callable[[], Tensor]:
    """The passes of a stage that are differentiated."""
    window, size = config.model.window, model.config
    clean = torch.randn(1, FRAMES, size.latent_channels, 8, 16)
    told = told or Conditions(
        torch.randn(1, size.text_tokens, size.text_width),
        torch.zeros(size.text_tokens, size.text_width),
        no_cameras(1, FRAMES),
    )
    sigmas = torch.full((1, FRAMES), 0.7)

    def run() -> Tensor:
        if stage == "teacher":
            clip = WanClip(clean, told)
            return packed_velocity(model, clip, clean[:, None], sigmas[:, None], window)
        if stage == "bidirectional":
            return whole_velocity(model, clean, sigmas, told, window)
        return self_play(model, window, TWO, told, Exit(0, 0), torch.Generator().manual_seed(0))

    return run


@pytest.mark.parametrize("stage", ["teacher", "bidirectional", "dmd"])
@pytest.mark.parametrize(("lora", "cameras"), [(None, False), (LORA, True)])
def test_operations(stage: str, lora: LoraConfig | None, cameras: bool, tmp_path: Path) -> None:
    """Under a kernel that keeps its scores, so that every product is seen by the counter."""
    size = replace(SIZE, cameras=cameras)
    config = replace(config_of(tmp_path, stage, size), lora=lora)
    window = config.model.window
    model = make_student(WanTransformer(size), lora, seed=0)
    run, found = pass_of(config, model, stage), []
    for differentiated in (False, True):
        counter = FlopCounterMode(display=False)
        with sdpa_kernel(SDPBackend.MATH), counter, torch.set_grad_enabled(differentiated):
            out = run()
            if differentiated:
                out.sum().backward()
        found.append(counter.get_total_flops())
    kinds = {"teacher": packed_pass, "bidirectional": whole_pass, "dmd": rollout_pass}
    one = kinds[stage](size, window, FRAMES)
    clean = one.forward * (FRAMES - 1) / FRAMES if stage == "dmd" else 0.0  # about
    assert found[0] == pytest.approx(one.forward + clean, rel=0.08 if lora else 0.05)
    expected = one.forward + clean + one.backward(lora, attention=2.0)
    assert found[1] == pytest.approx(expected, rel=0.08 if lora else 0.05)


@pytest.mark.parametrize("stage", ["teacher", "bidirectional", "dmd"])
@pytest.mark.parametrize("mouse", [0, 2])
def test_operations_of_an_action_module(stage: str, mouse: int, tmp_path: Path) -> None:
    """Of a model that reads a picture, and is told keys and perhaps a mouse."""
    module = ActionModuleConfig(layers=(1,), keys=4, mouse=mouse, key_width=32, heads=4)
    picture = PictureConfig(width=48, tokens=9)
    size = replace(SIZE, text_width=0, picture=picture, actions=module)
    config = config_of(tmp_path, stage, size)
    told = FrameConditions(
        torch.randn(1, FRAMES, size.condition_channels, 8, 16),
        torch.randn(1, FRAMES, module.rows, 4),
        torch.randn(1, FRAMES, module.rows, mouse) if mouse else None,
    )
    conditions = Conditions(torch.randn(1, 9, 48), torch.zeros(1, 1), no_cameras(1, FRAMES), told)
    model = make_student(WanTransformer(size), None, seed=0)
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter, torch.no_grad():
        pass_of(config, model, stage, conditions)()
    kinds = {"teacher": packed_pass, "bidirectional": whole_pass, "dmd": rollout_pass}
    one = kinds[stage](size, config.model.window, FRAMES)
    clean = one.forward * (FRAMES - 1) / FRAMES if stage == "dmd" else 0.0  # about
    assert counter.get_total_flops() == pytest.approx(one.forward + clean, rel=0.05)
    without = kinds[stage](replace(size, actions=None), config.model.window, FRAMES)
    assert one.forward > 1.1 * without.forward


@pytest.mark.parametrize("stage", ["teacher", "bidirectional", "dmd"])
@pytest.mark.parametrize(
    ("dtype", "checkpointing", "lora"),
    [
        ("float32", False, None),
        ("bfloat16", False, None),
        ("bfloat16", True, None),
        ("bfloat16", True, LORA),
    ],
)
def test_memory(
    stage: str, dtype: str, checkpointing: bool, lora: LoraConfig | None, tmp_path: Path
) -> None:
    """The most that lives at once in forward and backward passes, gradients included."""
    config = config_of(tmp_path, stage, SIZE, dtype=dtype, checkpointing=checkpointing)
    config = replace(config, lora=lora)
    model = make_student(WanTransformer(SIZE), lora, seed=0)
    if checkpointing:
        checkpoint_blocks(model)
    run = pass_of(config, model, stage)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            out = run()
        out.square().mean().backward()

    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        step()  # the gradients are there, as in all batches of a step but the first
        gc.collect()
        found = peak_bytes(step)
    need = memory(config)
    passes = played(config) if stage == "dmd" else need.activations
    assert passes <= need.activations
    assert 0.84 < found / (need.copies + passes + need.cache) < 1.1


def test_states_by_formula_are_states_counted(tmp_path: Path) -> None:
    """Weights, gradients, AdamW and the average, for all weights and for LoRA."""
    for lora in (None, LORA):
        config = replace(config_of(tmp_path, "teacher", SIZE), lora=lora)
        need = memory(config)
        model = make_student(WanTransformer(SIZE), lora, seed=0)
        learned = [p for p in model.parameters() if p.requires_grad]
        assert sum(p.nbytes for p in model.parameters()) == need.weights
        assert sum(p.nbytes for p in learned) == need.gradients == need.average
        assert 2 * need.gradients == need.optimizer
        assert sum(p.numel() for p in learned) == trained_parameters(SIZE, lora)
        several = memory(config, gpus=4)
        assert several.optimizer == need.optimizer // 4
        assert several.activations == need.activations


@pytest.mark.parametrize("stage", ["teacher", "bidirectional", "student", "ode", "dmd"])
def test_the_shipped_configs_are_read_and_estimated(
    stage: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(CONFIGS.parent)
    path = CONFIGS / "wan-1.3b" / f"{stage}.toml"
    config = read_stage(path)
    assert isinstance(config, WanTraining)
    rows = estimate(config)
    assert [row.gpus for row in rows] == [1, 4, 8] * 2
    assert rows[0].gigabytes > rows[1].gigabytes > rows[2].gigabytes
    assert rows[0].petaflops == pytest.approx(32 * stage_flops(config) / 1e15)
    assert rows[0].seconds == pytest.approx(8 * rows[2].seconds)
    assert rows[3].gigabytes < rows[0].gigabytes
    assert main(["train", str(path), "--estimate"]) == 0
    said = capsys.readouterr().out
    assert "expected, not measured" in said
    assert "LoRA 32" in said


def test_every_shipped_config_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIGS.parent)
    paths = set((CONFIGS / "wan-1.3b").glob("*.toml"))
    stages = paths - {CONFIGS / "wan-1.3b" / "shared.toml"}  # what the others are `like`
    assert len(stages) == len(paths) - 1
    for path in stages:
        read_stage(path)
    assert main(["train", "configs/doom/teacher.toml", "--estimate"]) == 2
