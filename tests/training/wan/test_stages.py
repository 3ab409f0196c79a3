"""Every stage learns, goes on where it was killed, and hands over what it trained."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.training.tiny_recipe import KillAfter
from tests.training.wan.tiny import FRAMES, LOOP, SIZE, TWO, Root, means, write_walks
from worldmodel.config import ConfigError, to_toml
from worldmodel.model.configs import SamplerConfig
from worldmodel.storage.checkpoint import CheckpointError, load_tensors, load_weights
from worldmodel.training.processes import Processes
from worldmodel.training.run_stage import Training, make_stage, prepare, read_stage
from worldmodel.training.train_loop import STATE, UnfinishedError
from worldmodel.training.train_state import trained_weights
from worldmodel.training.wan.dmd import WanDmdStage
from worldmodel.training.wan.export import WanExport
from worldmodel.training.wan.forward import whole_velocity
from worldmodel.training.wan.load_weights import load_network, run_weights
from worldmodel.training.wan.ode import WanOdeStage
from worldmodel.training.wan.self_play import full_play
from worldmodel.training.wan.stage_config import WanClips, WanTraining
from worldmodel.training.wan.teacher import WanTeacherStage
from worldmodel.wan.lora import LoraConfig, load_lora
from worldmodel.wan.transformer import WanTransformer
from worldmodel.worlds.wan.world_file import TRANSFORMER, read_wan_world

LORA = LoraConfig(rank=4, alpha=8.0, also=("self_attn.prope_o", "head"))
STAGES = ("teacher", "bidirectional", "student", "ode", "dmd")
ONE = WanClips(batch=1, frames=FRAMES, prompt_dropout=0.0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Root:
    """One clip, and finished runs of the stages that others begin with."""
    root = Root(tmp_path_factory.mktemp("wan"))
    write_walks(root.folder / "walks", count=1, frames=14)
    root.run(root.latents())
    loop = replace(LOOP, steps=60, save_every=60)
    root.run(root.teacher(loop=loop, clips=ONE))
    root.run(root.bidirectional(loop=replace(loop, steps=150, learning_rate=1e-2), clips=ONE))
    root.run(root.trajectories(clips=1))
    root.run(root.student(loop=replace(LOOP, steps=5), clips=ONE))
    return root


def losses(folder: Path, key: str = "loss") -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line[key] for line in lines if key in line]


@pytest.mark.parametrize("lora", [None, LORA])
def test_one_clip_is_learned_by_heart(lora: LoraConfig | None, root: Root) -> None:
    loop = replace(LOOP, steps=60, save_every=60, learning_rate=1e-2 if lora else 3e-3)
    name = "lora" if lora else "full"
    for stage, factor in {"teacher": 0.9, "bidirectional": 0.9, "student": 0.9, "ode": 0.7}.items():
        root.run(getattr(root, stage)(loop=loop, clips=ONE, lora=lora), f"{stage}_{name}")
        first, last = means(losses(root.runs / f"{stage}_{name}"))
        assert last < factor * first, stage


@pytest.mark.parametrize("lora", [None, LORA])
def test_a_real_score_of_one_clip_draws_the_student_s_play_towards_it(
    lora: LoraConfig | None, root: Root
) -> None:
    """In `dmd` no loss has to fall: what is played has to come nearer."""
    rate = 1e-2 if lora else 3e-3
    config = root.dmd(
        student=root.folder / "start.safetensors",
        loop=replace(LOOP, steps=90, save_every=90, learning_rate=rate, betas=(0.0, 0.99)),
        critic_learning_rate=rate,
        clips=ONE,
        lora=lora,
        guidance=1.0,
    )
    stage, name = make_stage(config, root.runs / "none"), f"near_{bool(lora)}"
    assert isinstance(stage, WanDmdStage)
    root.run(config, name)
    clip = stage.data.read([0], FRAMES)

    def distance(model: WanTransformer) -> float:
        plays = [
            full_play(
                model, stage.window, TWO, clip.conditions, torch.Generator().manual_seed(seed)
            )
            for seed in range(4)
        ]
        return float((torch.cat(plays) - clip.clean).square().mean())

    assert distance(load_network(root.runs / name, SIZE)) < 0.8 * distance(stage.ema)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("lora", [None, LORA])
def test_a_resumed_run_ends_in_the_same_weights(
    stage: str, lora: LoraConfig | None, root: Root, tmp_path: Path
) -> None:
    loop = replace(LOOP, steps=8, save_every=3)
    config = getattr(root, stage)(loop=loop, lora=lora)

    def fresh() -> KillAfter:
        return KillAfter(make_stage(config, tmp_path / "run"), 99)

    fresh().train(loop, tmp_path / "whole")
    broken = fresh()
    broken.steps = 5
    with pytest.raises(KeyboardInterrupt):
        broken.train(loop, tmp_path / "broken")
    assert fresh().train(loop, tmp_path / "broken").step == 8
    whole, again = (load_tensors(tmp_path / run / STATE)[0] for run in ("whole", "broken"))
    assert whole.keys() == again.keys()
    assert all(torch.equal(tensor, again[key]) for key, tensor in whole.items())
    student = {key for key in whole if key.startswith("student.")}
    if lora is not None:
        trained = trained_weights(fresh().student)
        assert student == {f"student.{name}" for name in trained}


def test_a_lora_run_is_small_and_merges_into_what_it_answered(root: Root) -> None:
    loop = replace(LOOP, steps=10, learning_rate=1e-2)
    root.run(root.teacher(loop=loop, lora=LORA), "small")
    run = root.runs / "small"
    stage = make_stage(root.teacher(loop=loop, lora=LORA), run)
    assert isinstance(stage, WanTeacherStage)
    tensors, lora = load_lora(run / "lora.safetensors")
    assert lora == LORA
    assert tensors.keys() == trained_weights(stage.ema).keys()
    assert len(tensors) < len(stage.ema.state_dict()) / 2
    stage.ema.load_state_dict({**stage.ema.state_dict(), **tensors})
    plain = load_network(run, SIZE)
    clip = stage.data.read([0], FRAMES)
    sigmas = torch.full((1, FRAMES), 0.7)
    found = [
        whole_velocity(model, clip.clean, sigmas, clip.conditions, stage.window)
        for model in (plain, stage.ema, load_network(root.folder / "start.safetensors", SIZE))
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
    assert (found[0] - found[2]).abs().max() > 1e-3
    # The next stage begins with whole weights; LoRA on LoRA is put together all the way down.
    root.run(root.student(loop=loop, lora=LORA, teacher=run), "smaller")
    assert set(run_weights(root.runs / "smaller")) == set(plain.state_dict())
    # The file alone becomes a world, on the weights that it was trained beside.
    root.run(root.world(run=root.runs / "teacher", dtype="float32"), "base")
    root.run(root.teacher(loop=loop, lora=LORA, start=root.runs / "base"), "beside")
    export = WanExport(
        stage="wan_world",
        title="merged",
        base=root.runs / "base",
        lora=root.runs / "beside" / "lora.safetensors",
        dtype="float32",
    )
    root.run(export, "merged")
    expected, played = load_network(root.runs / "beside", SIZE), WanTransformer(SIZE)
    load_weights(played, root.runs / "merged" / TRANSFORMER)
    for one, other in zip(expected.parameters(), played.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    assert "rank 4" in (root.runs / "merged" / "CARD.md").read_text()


def test_weights_without_cameras_get_a_branch_that_adds_nothing(root: Root, tmp_path: Path) -> None:
    plain = {
        name: tensor
        for name, tensor in load_network(root.folder / "start.safetensors", SIZE)
        .state_dict()
        .items()
        if "prope_o" not in name
    }
    save_file(plain, tmp_path / "t2v.safetensors")
    model = load_network(tmp_path / "t2v.safetensors", SIZE)
    assert not model.get_parameter("blocks.1.self_attn.prope_o.weight").any()
    config = root.teacher(start=tmp_path / "t2v.safetensors", loop=replace(LOOP, steps=2))
    for lora in (LORA, replace(LORA, also=("head",))):
        root.run(replace(config, lora=lora), f"branch{len(lora.also)}")
        assert set(run_weights(root.runs / f"branch{len(lora.also)}")) == set(model.state_dict())


def test_two_processes_train_what_one_does(root: Root) -> None:
    """Split chunk by chunk, with checkpointing; LoRA leaves the same small file."""
    loop = replace(LOOP, steps=3, micro_batches=2, checkpointing=True)
    for name, config in {
        "split_dmd": root.dmd(loop=loop),
        "split_student": root.student(loop=loop),  # whose average answers in every step
        "split_teacher": root.teacher(loop=loop, lora=LORA),
    }.items():
        root.run(config, f"{name}_one")
        path = root.folder / f"{name}.toml"
        path.write_text(to_toml(config), encoding="utf-8")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node=2", "-m", "worldmodel", "train", str(path)]
        command += ["--folder", str(root.runs / name), "--device", "cpu", "--threads", "1"]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        one, two = (load_tensors(root.runs / n / STATE)[0] for n in (f"{name}_one", name))
        assert one.keys() == two.keys()
        for key, tensor in one.items():
            if key.startswith(("student.", "ema.", "critic.")):
                distance = (two[key] - tensor).norm() / (tensor.norm() + 1e-3)
                assert float(distance) < 0.01, key
    run = root.runs / "split_teacher"
    assert (run / "lora.safetensors").is_file()
    (run / STATE).unlink()  # as after a kill: the parts alone are left, and one process goes on
    longer = root.teacher(loop=replace(loop, steps=5), lora=LORA)
    root.run(longer, "split_teacher")
    root.run(longer, "split_teacher_five")
    two, one = (
        load_tensors(root.runs / n / STATE)[0] for n in ("split_teacher", "split_teacher_five")
    )
    for key, tensor in one.items():
        assert torch.allclose(two[key], tensor, rtol=0.02, atol=1e-3), key


def test_activations_computed_twice_give_the_same_losses_and_gradients(root: Root) -> None:
    for stage in ("teacher", "dmd"):
        gradients = []
        for checkpointing in (False, True):
            loop = replace(LOOP, checkpointing=checkpointing)
            config = getattr(root, stage)(loop=loop)
            made = make_stage(config, root.runs / "none")
            prepare(made, loop, Processes(torch.device("cpu")), Path("x.toml"))
            step = config.critic_updates if stage == "dmd" else 0
            loss, _ = made.loss(step, torch.Generator().manual_seed(0))
            loss.backward()
            gradients.append([p.grad for p in made.student.parameters()])
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other)


def test_trajectories_end_where_the_teacher_goes_and_survive_a_kill(root: Root) -> None:
    folder = root.runs / "ode_trajectories"
    before = (folder / "00000.safetensors").stat().st_mtime_ns
    (folder / "summary.json").write_text('{"minutes": 100.0}')
    root.run(root.trajectories(clips=1))
    assert (folder / "00000.safetensors").stat().st_mtime_ns == before
    assert (folder / "summary.json").read_text().strip() == '{\n  "minutes": 100.0\n}'
    (folder / "00000.safetensors").write_bytes(b"cut short")
    root.run(root.trajectories(clips=1))
    assert json.loads((folder / "summary.json").read_text())["minutes"] > 100
    stage = make_stage(root.ode(), folder)
    assert isinstance(stage, WanOdeStage)
    noise, end = stage._states(0, 0)
    assert float(noise.std()) == pytest.approx(1.0, abs=0.1)
    assert float(end.std()) < 0.95 * float(noise.std())
    (folder / "00000.safetensors").unlink()
    with pytest.raises(UnfinishedError, match="ode_trajectories"):
        make_stage(root.ode(), folder)
    root.run(root.trajectories(clips=1))


def test_chunks_of_two_and_a_longer_list_for_the_first(root: Root) -> None:
    model = replace(root.model, chunk_frames=2, window_frames=4, sink_frames=0)
    loop = replace(LOOP, steps=6)
    first = SamplerConfig(sigmas=(1.0, 0.0), first_sigmas=(1.0, 0.9, 0.5, 0.0), renoise=True)
    root.run(root.teacher(model=model, loop=loop), "chunk_teacher")
    own = {"model": model, "loop": loop}
    root.run(root.student(teacher=root.runs / "chunk_teacher", **own), "chunk_student")
    student = root.runs / "chunk_student"
    root.run(root.dmd(student=student, sampler=first, **own), "chunk_dmd")
    root.run(root.world(run=root.runs / "chunk_dmd", sampler=first), "chunk_world")
    world = read_wan_world(root.runs / "chunk_world")
    assert (world.window.chunk_frames, world.actions.frames) == (2, 8)
    assert world.sampler.sigmas == (1.0, 0.0)
    assert world.first_sampler.sigmas == (1.0, 0.9, 0.5, 0.0)


def test_a_real_score_of_another_size_and_a_critic_of_the_student_s(root: Root) -> None:
    wide = replace(SIZE, width=48, layers=3)
    path = root.folder / "wide.toml"
    path.write_text(to_toml(wide), encoding="utf-8")
    weights = WanTransformer(wide).state_dict()
    save_file(weights, root.folder / "wide.safetensors")
    config = root.dmd(
        loop=replace(LOOP, steps=3),
        real=root.folder / "wide.safetensors",
        real_size=path,
        critic=root.runs / "bidirectional",
    )
    root.run(config, "wide_dmd")
    made = make_stage(config, root.runs / "none")
    assert isinstance(made, WanDmdStage)
    assert (made.real.config, made.fake.config) == (wide, SIZE)
    assert not any(p.requires_grad for p in made.real.parameters())


def test_bfloat16_computes_over_fp32_weights(root: Root) -> None:
    for stage in ("teacher", "student", "dmd"):
        loop = replace(LOOP, steps=3, dtype="bfloat16", checkpointing=True)
        root.run(getattr(root, stage)(loop=loop), f"{stage}_bf16")
        tensors = load_tensors(root.runs / f"{stage}_bf16" / STATE)[0]
        assert {t.dtype for t in tensors.values()} == {torch.float32}
    made = make_stage(root.student(loop=replace(LOOP, dtype="bfloat16")), root.runs / "none")
    assert made.teacher.dtype == torch.bfloat16  # type: ignore[attr-defined]  # a student's


CHANGES: dict[str, tuple[Callable[[Root], object], str]] = {
    "frames": (lambda r: r.teacher(clips=replace(ONE, frames=9)), "have 4 latent frames"),
    "rows": (lambda r: r.teacher(model=replace(r.model, rows=8)), "latents of 16 x 4 x 6"),
    "blocks": (
        lambda r: r.teacher(model=replace(r.model, chunk_frames=3, window_frames=3, sink_frames=0)),
        "multiple of chunk",
    ),
    "compile": (lambda r: r.teacher(loop=replace(LOOP, compile=True)), "compile = true is not"),
    "muon": (lambda r: r.teacher(loop=replace(LOOP, muon_learning_rate=0.1)), "muon_learning"),
    "start": (lambda r: r.teacher(start=r.folder / "walks"), "neither a world nor"),
    "latents": (lambda r: r.teacher(data=r.folder / "walks"), "no finished latents"),
    "run": (lambda r: r.student(teacher=r.runs / "latents"), "trains no Wan transformer"),
    "rounding": (
        lambda r: r.dmd(sampler=SamplerConfig(sigmas=(1.0, 0.0), renoise=True, latent_step=0.5)),
        "sigmas, first_sigmas and renoise only",
    ),
    "critic": (lambda r: r.dmd(critic=r.runs / "teacher"), "belong together"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_cannot_be_trained_is_told(name: str, root: Root) -> None:
    make, told = CHANGES[name]
    with pytest.raises((ConfigError, UnfinishedError, CheckpointError), match=told):
        root.run(make(root), f"wrong_{name}")


def test_a_config_is_read_as_it_was_written(root: Root) -> None:
    path = root.folder / "lora.toml"
    config = root.dmd(lora=LORA)
    path.write_text(to_toml(config), encoding="utf-8")
    assert read_stage(path) == config
    assert isinstance(config, WanTraining)
    assert isinstance(config, Training)
    path.write_text(to_toml(root.teacher()).replace('"teacher"', '"decoder"', 1), encoding="utf-8")
    with pytest.raises(ConfigError, match="'decoder' with kind"):
        read_stage(path)
