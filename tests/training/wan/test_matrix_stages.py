"""The stages on a student of Matrix-Game 2's kind, from recordings with keys and a mouse."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.training.wan.tiny import LOOP, Root, means, write_walks
from tests.worlds.wan import matrix_tiny
from tests.worlds.wan.wan_tiny import lively, save_taehv
from worldmodel.action import IDLE, Action
from worldmodel.config import ConfigError, UserError, to_toml
from worldmodel.model.configs import SamplerConfig
from worldmodel.storage.episode import Episode
from worldmodel.storage.episodes import load_episode, save_episode
from worldmodel.training.run_stage import make_stage
from worldmodel.training.self_play import Exit
from worldmodel.training.train_loop import CONFIG
from worldmodel.training.wan.clips import LatentClips
from worldmodel.training.wan.dmd import WanDmdStage
from worldmodel.training.wan.estimate import describe
from worldmodel.training.wan.export import WanExport
from worldmodel.training.wan.latents import write_latents
from worldmodel.training.wan.load_weights import load_network
from worldmodel.training.wan.self_play import self_play
from worldmodel.training.wan.sources import PixelClip
from worldmodel.training.wan.stage_config import WanClips, WanModel
from worldmodel.wan.lora import LoraConfig
from worldmodel.wan.training_context import GrowingCache
from worldmodel.wan.transformer import WanTransformer
from worldmodel.world import step
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.wan.importer import import_files
from worldmodel.worlds.wan.world import WanWorld
from worldmodel.worlds.wan.world_file import read_wan_world

SIZE = matrix_tiny.size(keys=4, layers=2)
FRAMES = 6  # latent: two chunks
CLIPS = WanClips(batch=1, frames=FRAMES, prompt_dropout=0.0)
THREE = SamplerConfig(sigmas=(1.0, 0.9088, 0.714, 0.0), renoise=True)
LORA = LoraConfig(rank=4, alpha=8.0, targets=("self_attn.q", "ffn.0", "t_qkv"), also=("head",))


class MatrixRoot(Root):
    """A world with an image encoder, recordings, weights to begin with."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runs = folder, folder / "runs"
        (folder / "size.toml").write_text(to_toml(SIZE), encoding="utf-8")
        torch.manual_seed(0)
        weights = lively(WanTransformer(SIZE), 1.0)
        save_file({k: v.contiguous() for k, v in weights.items()}, folder / "start.safetensors")
        files = [matrix_tiny.save_student(folder / "m.bin"), save_taehv(folder / "t.pth")]
        files += [*matrix_tiny.save_encoders(folder)]
        files.append(matrix_tiny.save_encoded(folder / "pictures.safetensors"))
        import_files(files, folder / "base", matrix_tiny.plan())
        self.model = WanModel(
            kind="wan", size=folder / "size.toml", rows=4, columns=6, chunk_frames=3,
            window_frames=6, sink_frames=0, action_frames=3,
        )  # fmt: skip
        self.common: dict[str, Any] = {
            "data": self.runs / "latents", "model": self.model, "clips": CLIPS, "loop": LOOP,
        }  # fmt: skip

    def latents(self, **changes: Any) -> Any:
        values = {
            "camera": None,
            "prompts": None,
            "controls_of": self.folder / "base",
            "frames": FRAMES,
            "frames_per_second": 16.0,
            **changes,
        }
        return super().latents(**values)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> MatrixRoot:
    root = MatrixRoot(tmp_path_factory.mktemp("matrix"))
    write_walks(root.folder / "walks", count=1, frames=22)
    root.run(root.latents())
    return root


def losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def test_clips_hold_the_rows_that_moved_their_frames(root: MatrixRoot) -> None:
    """Row t is what was done while frame t was seen: the action that led to frame t + 1."""
    (path,) = (root.runs / "latents").glob("walk0-*.safetensors")
    tensors = load_file(path)
    episode = load_episode(root.folder / "walks" / "walk0.safetensors")
    assert tensors["latents"].shape[1:] == tensors["picture"].shape[1:] == (6, 16, 4, 6)
    assert tensors["features"].shape == (1, 257, 80)
    assert tensors["keys"].shape == (1, 21, 4)
    for t in range(20):
        action = episode.actions[t + 1]
        assert tensors["keys"][0, t].tolist() == [float("KeyW" in action.buttons), 0, 0, 0]
        turn = action.mouse[0] / 50 + (0.1 if "KeyL" in action.buttons else 0.0)
        assert tensors["mouse"][0, t].tolist() == pytest.approx([0.0, min(max(turn, -0.1), 0.1)])


def test_clips_are_told_windows_and_their_first_picture(root: MatrixRoot) -> None:
    data = LatentClips(root.runs / "latents", SIZE)
    clip = data.read([0], FRAMES)
    told = clip.conditions.per_frame
    assert told is not None
    assert told.mouse is not None
    assert told.keys.shape == (1, 6, 12, 4)
    assert told.mouse.shape == (1, 6, 12, 2)
    assert told.picture.shape == (1, 6, 20, 4, 6)
    assert told.picture[0, :, 0, 0, 0].tolist() == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert clip.conditions.text.shape == (1, 257, 80)
    still = clip.unconditional.conditions.per_frame
    assert still is not None
    assert not still.keys.any()
    assert torch.equal(still.picture, told.picture)
    assert torch.equal(clip.unconditional.conditions.text, clip.conditions.text)
    hidden = data.draw(1, FRAMES, 1.0, torch.Generator().manual_seed(0)).conditions.per_frame
    assert hidden is not None
    assert hidden.mouse is not None
    assert not hidden.keys.any()
    assert not hidden.mouse.any()
    with pytest.raises(ConfigError, match="clips with 4 keys"):
        LatentClips(root.runs / "latents", matrix_tiny.size(keys=6, layers=2))


@pytest.mark.parametrize("lora", [None, LORA])
def test_every_stage_learns_and_the_world_is_played(
    lora: LoraConfig | None, root: MatrixRoot
) -> None:
    """Stages 1 to 3 and the real score, one after the other; then a folder that play opens."""
    name = "lora" if lora else "full"
    rate = 1e-2 if lora else 3e-3
    loop = replace(LOOP, steps=25, save_every=25, learning_rate=rate)
    if lora:  # as it is done at full size
        loop = replace(loop, dtype="bfloat16", checkpointing=True)
    runs = {
        stage: root.runs / f"{stage}_{name}" for stage in ("teacher", "bidirectional", "student")
    }
    for stage in ("teacher", "bidirectional"):
        root.run(getattr(root, stage)(loop=loop, lora=lora), runs[stage].name)
        first, last = means(losses(runs[stage]))
        assert last < 0.95 * first, stage
    student = root.student(
        loop=loop, lora=lora, teacher=root.runs / f"teacher_{name}", guidance=2.0
    )
    root.run(student, runs["student"].name)
    assert all(0 < loss < 100 for loss in losses(runs["student"]))
    dmd = root.dmd(
        student=runs["student"], real=runs["bidirectional"], sampler=THREE, lora=lora,
        loop=replace(loop, steps=6, save_every=6),
    )  # fmt: skip
    root.run(dmd, f"dmd_{name}")
    before = load_network(runs["student"], SIZE).state_dict()
    after = load_network(root.runs / f"dmd_{name}", SIZE).state_dict()
    moved = {key for key, tensor in after.items() if not torch.equal(tensor, before[key])}
    assert "blocks.0.action_model.t_qkv.weight" in moved
    assert ("blocks.0.action_model.proj_keyboard.weight" in moved) == (lora is None)
    assert not any("_attn_q_norm" in key or "_attn_k_norm" in key for key in moved)
    world = WanExport(
        stage="wan_world", title="A tiny walk", base=root.folder / "base",
        run=root.runs / f"dmd_{name}", sampler=THREE, dtype="float32",
    )  # fmt: skip
    root.run(world, f"world_{name}")
    folder = root.runs / f"world_{name}"
    file = read_wan_world(folder)
    assert (file.window.action_frames, file.actions.frames, file.recipe) == (3, 12, "trained")
    assert file.actions.look_up_down
    played = WanWorld.load(folder, RunSettings(device="cpu", dtype="float32", threads=1))
    frames = [[played.reset(0, 0), *(step(played, a) for _ in range(22))] for a in (IDLE, W)]
    assert (frames[0][9] != frames[1][9]).any()


W = Action(frozenset({"KeyW"}))


@torch.no_grad()
def test_later_chunks_of_a_rollout_see_clean_ones(
    root: MatrixRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clean pass of every chunk renews what is remembered, of frames, keys and mouse alike.

    Without it, later chunks would see keys of the exit step, noisy in all cases but the last.
    """
    stage = make_stage(root.dmd(student=root.folder / "start.safetensors",
        real=root.folder / "start.safetensors", sampler=THREE), root.runs / "none")  # fmt: skip
    assert isinstance(stage, WanDmdStage)
    conditions = stage.data.read([0], FRAMES).conditions
    kept: list[GrowingCache] = []
    make = GrowingCache.__init__

    def noted(cache: GrowingCache, *args: Any, **named: Any) -> None:
        make(cache, *args, **named)
        kept.append(cache)

    monkeypatch.setattr(GrowingCache, "__init__", noted)
    generator = torch.Generator().manual_seed(0)
    drawn = self_play(stage.student, stage.window, THREE, conditions, Exit(0, 0), generator)
    (cache,) = kept
    again = GrowingCache(
        SIZE, stage.window, FRAMES, conditions.text, conditions=conditions.per_frame
    )
    clean, zeros = drawn[:, :3], torch.zeros(1, 3)
    stage.student(clean, zeros, conditions.cameras[:, :3], again.at(0, keeps=True))
    for kind, (keys, values) in again.kept.items():
        rows = again.streams.streams[kind].tokens * 3
        assert torch.equal(cache.kept[kind][0][..., :rows, :], keys[..., :rows, :]), kind
        assert torch.equal(cache.kept[kind][1][..., :rows, :], values[..., :rows, :]), kind

    def skipped(model: WanTransformer, *given: Any) -> Tensor:
        """What a trainer does that leaves the clean pass out: the exit step's keys stay."""
        latents, sigmas, cameras, context = given
        context.keeps = not context.keeps
        return WanTransformer.forward(model, latents, sigmas, cameras, context)

    stage.student.forward = skipped.__get__(stage.student)  # type: ignore[method-assign]
    generator.manual_seed(0)
    other = self_play(stage.student, stage.window, THREE, conditions, Exit(0, 0), generator)
    assert torch.equal(other[:, :3], drawn[:, :3])
    assert (other[:, 3:] - drawn[:, 3:]).abs().max() > 1e-3


@pytest.mark.parametrize("recipe", ["forgewm-teacher", "forgewm-bidirectional"])
def test_a_real_score_that_sees_no_later_frames_and_a_teacher_that_does_are_refused(
    recipe: str, root: MatrixRoot, tmp_path: Path
) -> None:
    """ForgeWM's stages 0 and 1 have the same tensors: what was said at import is held to."""
    run, world = tmp_path / "run", tmp_path / "world"
    file = matrix_tiny.save_student(tmp_path / "m.pt", 6, 30, "generator")
    import_files([file], world, matrix_tiny.plan(recipe))
    run.mkdir()
    is_whole = recipe == "forgewm-bidirectional"
    made = root.bidirectional() if is_whole else root.teacher()
    (run / CONFIG).write_text(to_toml(made), encoding="utf-8")
    for path in (run, world):
        wrong = root.student(teacher=path) if is_whole else root.dmd(real=path)
        told = r"teacher = .* sees whole .*`teacher`" if is_whole else r"real = .* no later .*whole"
        with pytest.raises(ConfigError, match=told):
            make_stage(wrong, tmp_path / "none")
        right = root.dmd(real=path) if is_whole else root.student(teacher=path)
        with pytest.raises(UserError) as raised:  # no weights, or of another size
            make_stage(right, tmp_path / "none")
        assert "name a run or a released" not in str(raised.value)


def test_latents_need_a_world_that_says_what_keys_mean(root: MatrixRoot, tmp_path: Path) -> None:
    files = [matrix_tiny.save_student(tmp_path / "m.bin")]
    import_files(files, tmp_path / "base", matrix_tiny.plan())
    with pytest.raises(UserError, match="with its image encoder"):
        root.run(root.latents(controls_of=tmp_path / "base"), "none")


def test_what_no_row_tells_of_is_said(
    root: MatrixRoot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keys that the model has not, and turns that are cut: it would learn that they do nothing."""
    frames = np.zeros((22, 32, 48, 3), np.uint8)
    actions = [Action(frozenset({"ArrowLeft"}), (9.0 if t % 2 else 1.0, 3.0)) for t in range(22)]
    episode = Episode(
        frames=frames, actions=actions, frames_per_second=16.0, buttons=("ArrowLeft",)
    )
    (tmp_path / "data").mkdir()
    save_episode(tmp_path / "data" / "a.safetensors", episode)
    latents = root.latents(data=tmp_path / "data")
    write_latents(latents, tmp_path / "latents")
    told = capsys.readouterr().err
    assert "ArrowLeft (20), turns of more than 5 degrees (10); [controls]" in told
    write_latents(latents, tmp_path / "latents")  # nothing of it is new
    assert "no row tells" not in capsys.readouterr().err
    clip = PixelClip(frames[:2], ((IDLE,), (actions[0],)))
    world = read_wan_world(root.folder / "base")
    assert clip.rows(world)[1][0].tolist() == pytest.approx([-0.06, 0.02])
    level = replace(world, actions=replace(world.actions, look_up_down=False))
    assert clip.rows(level)[1][0].tolist() == pytest.approx([0.0, 0.02])  # as in play


def test_what_a_stage_costs_is_said(root: MatrixRoot) -> None:
    rows = [line.split() for line in describe(root.teacher())[2:-1]]
    assert [row[:-5] for row in rows[:3]] == [["full", gpus] for gpus in ("1", "4", "8")]
    assert len(rows) == 6
