"""Parts that several processes write: the last two are kept, and a broken one costs no run."""

import io
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import BytesStorageMetadata

from tests.training.tiny_recipe import autoencoder_training
from worldmodel.storage.files import FileWriteError
from worldmodel.training import sharded
from worldmodel.training.autoencoder import AutoencoderStage
from worldmodel.training.kept_states import BrokenStateError
from worldmodel.training.processes import Processes
from worldmodel.training.sharded import save_sharded
from worldmodel.training.train_loop import STATE, resume
from worldmodel.training.train_state import TrainState

ALONE = Processes(torch.device("cpu"))
# One process stands in for several.
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> AutoencoderStage:
    root = tmp_path_factory.mktemp("sharded")
    return AutoencoderStage(autoencoder_training(root, steps=9), root / "run")


def written(stage: AutoencoderStage, folder: Path, *steps: int) -> TrainState:
    """A run whose weights all are the number of its step."""
    state = resume(stage, stage.config.loop, folder)
    for step in steps:
        for parameter in (*stage.student.parameters(), *stage.ema.parameters()):
            parameter.data.fill_(float(step))
        state.step = step
        save_sharded(state, folder, ALONE)
    return state


def resumed(stage: AutoencoderStage, folder: Path) -> int:
    state = resume(stage, stage.config.loop, folder)
    for parameter in (*stage.student.parameters(), *stage.ema.parameters()):
        assert bool((parameter == state.step).all())
    return state.step


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "sharded").iterdir() if path.is_dir())


def harm(folder: Path, how: str, step: int) -> None:
    place = folder / "sharded" / f"{step:08d}"
    part = next(place.glob("*.distcp"))
    if how == "cut":
        part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
    elif how == "part gone":
        part.unlink()
    elif how == "all gone":
        shutil.rmtree(place)
    elif how == "no numbers":
        content = bytearray(part.read_bytes())
        value = torch.tensor([float(step)] * 4).numpy().tobytes()
        nan = torch.tensor([float("nan")] * 4).numpy().tobytes()
        assert value in content
        part.write_bytes(bytes(content).replace(value, nan))
    else:
        (folder / "sharded" / "latest.json").write_text(how)


def test_the_last_two_are_kept_and_the_newest_counts(
    stage: AutoencoderStage, tmp_path: Path
) -> None:
    state = written(stage, tmp_path, 2, 4, 6)
    assert kept(tmp_path) == ["00000004", "00000006"]
    save_sharded(state, tmp_path, ALONE)  # the same step again pushes none out
    assert kept(tmp_path) == ["00000004", "00000006"]
    assert resumed(stage, tmp_path) == 6


@pytest.mark.parametrize(
    "how", ["cut", "part gone", "all gone", "no numbers", "{", '{"step": -5}', '{"step": "x"}']
)
def test_a_broken_one_costs_the_steps_since_the_one_before(
    stage: AutoencoderStage, tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    written(stage, tmp_path, 3, 6)
    harm(tmp_path, how, 6)
    assert resumed(stage, tmp_path) == 3
    assert "going on from step 3" in capsys.readouterr().err
    written(stage, tmp_path, 5)  # what is broken pushes out nothing that is whole
    assert kept(tmp_path) == ["00000003", "00000005"]
    harm(tmp_path, "cut", 5)
    assert resumed(stage, tmp_path) == 3


def test_where_none_is_whole_that_is_said(stage: AutoencoderStage, tmp_path: Path) -> None:
    written(stage, tmp_path, 3, 6)
    for step in (3, 6):
        harm(tmp_path, "cut", step)
    with pytest.raises(BrokenStateError, match=r"00000006: .*cannot be read; no other state is"):
        resume(stage, stage.config.loop, tmp_path)


def test_parts_and_the_single_file_stand_in_for_each_other(
    stage: AutoencoderStage, tmp_path: Path
) -> None:
    state = written(stage, tmp_path, 3)
    state.save(tmp_path / STATE)
    written(stage, tmp_path, 6)
    for step in (3, 6):
        if (tmp_path / "sharded" / f"{step:08d}").is_dir():
            harm(tmp_path, "cut", step)
    assert resumed(stage, tmp_path) == 3
    (tmp_path / STATE).write_bytes(b"no state")
    with pytest.raises(BrokenStateError):
        resume(stage, stage.config.loop, tmp_path)
    shutil.rmtree(tmp_path / "sharded")
    (tmp_path / STATE).unlink()
    state = written(stage, tmp_path, 6)
    (tmp_path / STATE).write_bytes(b"no state")
    assert resumed(stage, tmp_path) == 6


def test_a_disk_that_is_full_is_told_as_such(
    stage: AutoencoderStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = written(stage, tmp_path, 3)
    full = CheckpointException("save", {0: (OSError(28, "No space left"), None)})  # type: ignore[dict-item]  # no stack

    def refuse(*_: object, **__: object) -> None:
        raise full

    monkeypatch.setattr(sharded, "save", refuse)
    state.step = 4
    with pytest.raises(FileWriteError, match=r"00000004: cannot be written: OSError .*No space"):
        save_sharded(state, tmp_path, ALONE)
    assert json.loads((tmp_path / "sharded" / "latest.json").read_text())["step"] == 3


class Attack:
    """Runs code where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.trace),)


def test_a_list_of_parts_runs_no_code(stage: AutoencoderStage, tmp_path: Path) -> None:
    written(stage, tmp_path / "run", 1, 2)
    place, trace = tmp_path / "run" / "sharded" / "00000002", tmp_path / "executed"
    with (place / ".metadata").open("rb") as file:
        metadata = pickle.load(file)
    metadata.planner_data = Attack(trace)
    (place / ".metadata").write_bytes(pickle.dumps(metadata))
    assert resumed(stage, tmp_path / "run") == 1  # the older one is whole
    assert not trace.exists()


def test_numbers_beside_the_tensors_run_no_code(stage: AutoencoderStage, tmp_path: Path) -> None:
    written(stage, tmp_path / "run", 1, 2)
    place, trace = tmp_path / "run" / "sharded" / "00000002", tmp_path / "executed"
    with (place / ".metadata").open("rb") as file:
        metadata = pickle.load(file)
    planted = io.BytesIO()
    torch.save({"lr": Attack(trace)}, planted)
    (place / "planted.distcp").write_bytes(planted.getvalue())
    numbers = [
        index
        for index in metadata.storage_data
        if isinstance(metadata.state_dict_metadata[index.fqn], BytesStorageMetadata)
    ]
    assert numbers
    info = metadata.storage_data[numbers[0]]
    info.relative_path, info.offset, info.length = "planted.distcp", 0, len(planted.getvalue())
    (place / ".metadata").write_bytes(pickle.dumps(metadata))
    assert resumed(stage, tmp_path / "run") == 1
    assert not trace.exists()


def test_a_list_of_parts_stays_in_its_folder(stage: AutoencoderStage, tmp_path: Path) -> None:
    written(stage, tmp_path / "run", 1, 2)
    place = tmp_path / "run" / "sharded" / "00000002"
    with (place / ".metadata").open("rb") as file:
        metadata = pickle.load(file)
    for info in metadata.storage_data.values():
        info.relative_path = f"../00000001/{info.relative_path}"
    (place / ".metadata").write_bytes(pickle.dumps(metadata))
    assert resumed(stage, tmp_path / "run") == 1
