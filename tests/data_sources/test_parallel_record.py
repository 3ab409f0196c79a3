"""Several processes record what one would."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from worldmodel.action import Action
from worldmodel.config import UserError
from worldmodel.data_sources.doom import DoomConfig
from worldmodel.data_sources.gym import GymConfig
from worldmodel.data_sources.parallel_record import GameSource, record_together
from worldmodel.storage.episodes import find_episodes, load_episode

SQUARES = GameSource(gym=GymConfig(env="tests.data_sources.squares:Squares", size=(16, 32)))


def contents(folder: Path) -> dict[str, tuple[bytes, list[Action]]]:
    """What the files say; the order of their headers' keys is anyone's guess."""
    episodes = {path.name: load_episode(path) for path in find_episodes(folder)}
    return {name: (e.frames.tobytes(), list(e.actions)) for name, e in episodes.items()}


def test_two_processes_leave_the_files_of_one_and_no_more_than_were_asked_for(
    tmp_path: Path,
) -> None:
    done = [
        record_together(SQUARES, tmp_path / str(n), 100, first=7, episode_frames=20, processes=n)
        for n in (1, 2)
    ]
    one, two = contents(tmp_path / "1"), contents(tmp_path / "2")
    assert one == two
    assert list(one) == [f"Squares_{number:06d}.safetensors" for number in range(7, 12)]
    assert done == [100, 100]


def test_a_recording_that_was_killed_goes_on_and_plays_nothing_twice(tmp_path: Path) -> None:
    record_together(SQUARES, tmp_path, 100, first=0, episode_frames=20, processes=1)
    before = contents(tmp_path)
    lost, kept = find_episodes(tmp_path)[2], find_episodes(tmp_path)[0]
    lost.unlink()
    written = kept.stat().st_mtime_ns
    record_together(SQUARES, tmp_path, 100, first=0, episode_frames=20, processes=1)
    assert contents(tmp_path) == before
    assert kept.stat().st_mtime_ns == written


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_recording_that_is_killed_leaves_no_process_behind(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from tests.data_sources import test_parallel_record as t;"
        f"t.record_together(t.SQUARES, Path({str(tmp_path)!r}), 10**9, 0, 20, 1)"
    )
    script = tmp_path / "script.py"
    script.write_text(f"if __name__ == '__main__':\n    {code}\n")
    where = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, str(script)], env=where, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: list(tmp_path.glob("*.safetensors")))
        started = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    finally:
        process.kill()
        process.wait()
    assert started
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))


def wait_for(holds: Callable[[], object]) -> None:
    for _ in range(400):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come")


def test_levels_of_doom_are_played_in_turns(tmp_path: Path) -> None:
    pytest.importorskip("vizdoom")
    levels = ("my_way_home", "health_gathering_supreme")
    source = GameSource(doom=tuple(DoomConfig(level=level) for level in levels))
    record_together(source, tmp_path, 90, first=0, episode_frames=30, processes=1)
    names = [path.name for path in find_episodes(tmp_path)]
    assert sorted(names) == [
        "health_gathering_supreme_000001.safetensors",
        "my_way_home_000000.safetensors",
        "my_way_home_000002.safetensors",
    ]
    one, other = (load_episode(tmp_path / name).frames for name in names[:2])
    assert abs(one[5].astype(int) - other[5]).mean() > 5  # another place


def test_a_player_of_ones_own_is_run_only_where_code_is_allowed(tmp_path: Path) -> None:
    own = replace(SQUARES, player="tests.data_sources.squares:random_policy")
    with pytest.raises(UserError, match="--allow-code"):
        record_together(own, tmp_path, 40, first=0, episode_frames=20, processes=1)
    assert not list(tmp_path.glob("*.safetensors"))
    allowed = replace(own, allow_code=True)
    assert record_together(allowed, tmp_path, 40, first=0, episode_frames=20, processes=1) == 40
