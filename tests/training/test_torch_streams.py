"""Every stage: what picks a clip has nothing to do with what else is drawn for it."""

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.independence import (
    Watch,
    assert_independent,
    assert_no_seed_twice,
    assert_same_shares,
    unblended,
    watch,
    watch_training,
    with_sizes,
)
from tests.training.tiny_recipe import STAGES
from worldmodel.storage.checkpoint import load_tensors
from worldmodel.training import decoder, dmd, trajectories
from worldmodel.training.bidirectional import BidirectionalStage, BidirectionalTraining
from worldmodel.training.consistency import StudentStage, StudentTraining
from worldmodel.training.decoder import DecoderStage, DecoderTraining
from worldmodel.training.dmd import DmdStage
from worldmodel.training.ode import OdeStage
from worldmodel.training.processes import Processes
from worldmodel.training.row_files import ReadSpeed
from worldmodel.training.run_stage import Training, make_stage, read_stage
from worldmodel.training.self_play import Exit
from worldmodel.training.teacher_forcing import PackedClip, TeacherStage, TeacherTraining
from worldmodel.training.torch_streams import host_choices, host_stream, torch_stream
from worldmodel.training.trajectories import OdeTrajectories

__all__ = ["watch"]  # the fixture
LENGTH = 60  # frames of an episode of the tiny data
BATCHES, MICRO = 400, 4
DRAWN = {  # what a stage draws; it is seen by all means
    "autoencoder": {"frame", "level", "noise"},
    "decoder": {"frame", "level", "noise", "played"},
    "bidirectional": {"place", "episode", "told", "known", "level", "levels", "noise"},
    "teacher": {
        "place", "episode", "sink", "resampled", "history", "told", "level", "noise",
    },
    "student": {
        "place", "episode", "sink", "resampled", "history", "told", "level", "noise",
    },
    "ode": {"trajectory", "level"},
    "dmd": {"place", "episode", "sink", "exit", "length", "level", "noise"},
}  # fmt: skip
PACKAGE = Path(trajectories.__file__).parent


@pytest.fixture(autouse=True)
def places(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Where clips and frames come from, seen where they are read; the last of them."""
    real, last = ReadSpeed.gather, dict[str, Tensor]()

    def gather(self: ReadSpeed, rows: Tensor, index: Tensor, device: torch.device) -> Tensor:
        found = real(self, rows, index, device)
        if not watch.rows:
            return found
        if index.ndim == 1:  # frames
            watch.see(frame=index)
            return found
        watch.see(place=index[:, -1] % LENGTH, episode=index[:, -1] // LENGTH)
        before = index[:, 1] - index[:, 0] - 1  # that the sink lies earlier than it might
        watch.see(sink=before / (index[:, 1] % LENGTH))
        last["latents" if found.ndim == 5 else "actions"] = found.float()
        return found

    monkeypatch.setattr(ReadSpeed, "gather", gather)
    return last


def see_clips(stage: BidirectionalStage, watch: Watch, last: dict[str, Tensor]) -> None:
    def forward(_: Any, noisy: Tensor, sigmas: Tensor, actions: Tensor, known: Tensor) -> Tensor:
        watch.see(
            told=(actions == last["actions"]).all(dim=(1, 2)),
            known=known,
            level=sigmas[:, -1],
            levels=sigmas[:, -1] == sigmas[:, -2],
            noise=with_sizes(unblended(noisy, last["latents"], sigmas)),
        )
        return torch.zeros_like(noisy)

    stage.forward = forward


def see_packed(stage: TeacherStage | StudentStage, watch: Watch) -> None:
    def packed(_: Any, clip: PackedClip, noisy: Tensor, sigmas: Tensor, __: Any) -> Tensor:
        if noisy.shape[1] == 1:  # a history that the model resamples
            watch.see(resampled=sigmas[..., -1])
        else:
            watch.see(
                history=clip.history_sigmas[:, -1],
                told=(clip.conditions == clip.actions).all(dim=2)[:, -1],
                level=sigmas[..., -1],
                noise=with_sizes(unblended(noisy, clip.clean[:, None], sigmas)),
            )
        return torch.zeros_like(noisy)

    stage.forward = packed


def see_trajectories(stage: OdeStage, watch: Watch) -> None:
    ends = torch.cat([load_tensors(path)[0]["clean"] for path in stage.shards.paths]).float()

    def packed(_: Any, clip: PackedClip, noisy: Tensor, sigmas: Tensor, __: Any) -> Tensor:
        number = (ends[:, None] - clip.clean).abs().sum(dim=(2, 3, 4, 5)).argmin(dim=0)
        watch.see(trajectory=number, level=sigmas[:, 0, -1])
        return torch.zeros_like(noisy)

    stage.forward = packed


def see_play(stage: DmdStage, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    def self_play(_: Any, __: Any, past: Any, actions: Tensor, leave: Exit, *___: Any) -> Tensor:
        watch.see(exit=torch.tensor(leave.rest), length=torch.tensor(actions.shape[1]))
        return torch.zeros(actions.shape[:2] + past[0].shape[2:])

    def forward(_: Any, noisy: Tensor, sigmas: Tensor, *__: Any) -> Tensor:
        noise = unblended(noisy, torch.zeros(()), sigmas)
        watch.see(level=sigmas[:, -1], noise=with_sizes(noise))
        return torch.zeros_like(noisy)

    monkeypatch.setattr(dmd, "self_play", self_play)
    stage.forward = forward


def see_frames(stage: Any, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    model = stage.student.autoencoder if isinstance(stage, DecoderStage) else stage.student
    if isinstance(stage, DecoderStage) and stage.played:
        numbers = torch.arange(1.0, 1 + len(stage.played.latents))[:, None, None, None]
        played = replace(stage.played, latents=numbers.expand_as(stage.played.latents))
        stage.played = played

    def encode(pixels: Tensor) -> Tensor:
        return torch.zeros(len(pixels), *model.latent_shape)

    def decode(latents: Tensor, pixels: Tensor | None = None) -> Tensor:
        assert pixels is None, "no plan here"
        size = (model.config.frame_height, model.config.frame_width)
        own = (latents == latents[:, :1, :1, :1]).all(dim=(1, 2, 3))  # played ones, numbered
        if own.any():
            watch.see(played=latents[own][:, 0, 0, 0])
        noise = latents[~own].flatten(1)
        watch.see(level=noise.square().mean(dim=1), noise=noise[:, 0])
        return torch.zeros(len(latents), 3, *size)

    monkeypatch.setattr(model, "encode", encode)
    monkeypatch.setattr(model, "decode", decode)


def shares_of(config: Training) -> Training:
    """With some of everything that a stage can choose for a clip."""
    if isinstance(config, BidirectionalTraining):
        return replace(config, clips=replace(config.clips, frame_levels=0.4, action_dropout=0.3))
    if isinstance(config, TeacherTraining | StudentTraining):
        return replace(config, clips=replace(config.clips, action_dropout=0.3))
    return config


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_draws_everything_independently(
    name: str,
    recipe: Path,
    tmp_path: Path,
    watch: Watch,
    places: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a batch, of one micro batch and the next, of one step and the next; no seed twice."""
    config = read_stage(recipe / f"{name}.toml")
    assert isinstance(config, Training)
    config = shares_of(config)
    stage = make_stage(config, tmp_path / "run")
    if isinstance(stage, BidirectionalStage):
        see_clips(stage, watch, places)
    elif isinstance(stage, TeacherStage | StudentStage):
        see_packed(stage, watch)
    elif isinstance(stage, OdeStage):
        see_trajectories(stage, watch)
    elif isinstance(stage, DmdStage):
        see_play(stage, watch, monkeypatch)
    else:
        see_frames(stage, watch, monkeypatch)
    micro = 1 if name == "dmd" else MICRO  # whose batches have their exit in common
    watch_training(stage, config.loop, tmp_path / "run", watch, BATCHES, micro)
    assert watch.columns.keys() == DRAWN[name]
    assert_independent(watch.columns, (1, MICRO))
    assert len(watch.seeds) > BATCHES
    assert_no_seed_twice(watch.seeds)


def test_frames_are_known_as_often_wherever_in_an_episode_a_clip_lies(
    recipe: Path, tmp_path: Path, watch: Watch, places: dict[str, Tensor]
) -> None:
    """It was every clip of an episode's first 60 %, and none of its last 30 %."""
    config = read_stage(recipe / "bidirectional.toml")
    assert isinstance(config, BidirectionalTraining)
    stage = BidirectionalStage(config, tmp_path / "run")
    see_clips(stage, watch, places)
    watch_training(stage, config.loop, tmp_path / "run", watch, 360)
    seen = watch.columns
    assert seen["place"].numel() == 2880
    assert_same_shares(seen["place"], seen["known"] > 0, config.clips.known_share)
    assert_same_shares(seen["place"], 1 - seen["told"], config.clips.action_dropout)
    assert_same_shares(seen["place"], seen["level"] > 0.75, 0.5)  # the shifted median
    assert_same_shares(seen["level"], seen["known"] > 0, config.clips.known_share)


def test_trajectories_begin_with_noise_that_has_nothing_to_do_with_their_clips(
    recipe: Path, tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = read_stage(recipe / "ode_trajectories.toml")
    assert isinstance(config, OdeTrajectories)
    config = replace(config, clips=4 * BATCHES, shard=400, batch=4)

    def follow(_: Any, clip: PackedClip, noise: Tensor, __: Any) -> Tensor:
        watch.see(noise=with_sizes(noise.flatten()[:32]))
        watch.begin()
        return torch.zeros(len(noise), 1, *clip.clean.shape[1:])

    monkeypatch.setattr(trajectories, "follow", follow)
    watch.begin()
    trajectories.write_trajectories(config, tmp_path / "runs" / "made")
    watch.rows.pop()
    assert watch.columns.keys() == {"place", "episode", "sink", "noise"}
    assert_independent(watch.columns, (1,))
    assert len(watch.seeds) > BATCHES
    assert_no_seed_twice(watch.seeds)


def test_every_rollout_that_a_decoder_learns_from_has_noise_of_its_own(
    recipe: Path, tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of one batch shared it with those of the next."""
    config = read_stage(recipe / "decoder.toml")
    assert isinstance(config, DecoderTraining)
    monkeypatch.setattr(decoder, "PLAY_BATCH", 3)
    DecoderStage(config, tmp_path / "run")
    assert config.own_play
    assert len(watch.seeds) > config.own_play.clips > decoder.PLAY_BATCH
    assert_no_seed_twice(watch.seeds)


def test_stages_and_runs_of_one_seed_and_of_the_next_see_other_clips() -> None:
    def drawn(*key: int | str) -> Tensor:
        return torch.rand(64, generator=host_stream(torch_stream("cpu", *key), "clips"))

    keys = [(0, "teacher", 3, 0), (0, "student", 3, 0), (1, "teacher", 3, 0), (1, "teacher", 2, 0)]
    numbers = torch.cat([drawn(*key) for key in keys])
    assert len(numbers.unique()) == len(numbers)


def test_the_hosts_streams_follow_from_a_key_whatever_was_drawn_and_where() -> None:
    fresh, used = torch_stream("cpu", 0, "a"), torch_stream("cpu", 0, "a")
    torch.rand(99, generator=used)
    one, other = (torch.rand(4, generator=host_stream(x, "clips")) for x in (fresh, used))
    assert torch.equal(one, other)
    assert host_choices(fresh, "levels").random() == host_choices(used, "levels").random()
    assert not torch.isin(one, torch.rand(4, generator=host_stream(fresh, "frames"))).any()
    if torch.cuda.is_available():
        gpu = torch_stream("cuda", 0, "a")
        assert torch.equal(torch.rand(4, generator=host_stream(gpu, "clips")), one)


def test_processes_share_no_batch() -> None:
    device = torch.device("cpu")
    shared = [batch for rank in range(4) for batch in Processes(device, rank, 4).share(8)]
    assert shared == list(range(8))


MAKERS = {"manual_seed", "initial_seed", "default_rng", "Random", "Generator", "SeedSequence"}


def calls(path: Path, wanted: Callable[[str], bool]) -> list[str]:
    """What is called in a file by a name that is wanted."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = [
        f.attr if isinstance(f, ast.Attribute) else f.id
        for f in functions
        if isinstance(f, ast.Attribute | ast.Name)
    ]
    return [f"{path.relative_to(PACKAGE)}: {name}" for name in names if wanted(name)]


def test_no_other_part_of_training_makes_a_generator() -> None:
    found = [call for path in PACKAGE.rglob("*.py") for call in calls(path, MAKERS.__contains__)]
    assert {call.partition(":")[0] for call in found} == {"torch_streams.py"}, found
