"""Asynchronous environments: a fork is refused in a sentence, a fresh process plays."""

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worlds.make_world import make_world
from worldmodel.worlds.fork_guard import ForkedError, refuse_fork

pytest.importorskip("gymnasium")
FORKS = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="no fork here"
)
# A program of its own: the process that tests has threads, which no fork survives.
ASYNC = """
import sys
import gymnasium as gym
import worldmodel.gym_env
from worldmodel.config import UserError

if __name__ == "__main__":
    world, context = sys.argv[1:]
    how = dict(world=world, engine="torch", dtype="float32", threads=1)
    env = gym.make(worldmodel.gym_env.ID, **how)
    env.reset(seed=0)
    envs = gym.make_vec(
        worldmodel.gym_env.ID, num_envs=2, vectorization_mode="async",
        vector_kwargs=dict(context=context), **how,
    )
    try:
        print(envs.reset(seed=0)[0].shape)
        print(envs.step(envs.action_space.sample())[0].shape)
    except UserError as error:
        print(f"refused: {error}")
    envs.close(terminate=True)
"""


def play(world: Path, context: str, folder: Path) -> str:
    program = folder / "program.py"
    program.write_text(ASYNC, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(program), str(world), context],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONWARNINGS": "ignore"},
    )
    return done.stdout + done.stderr


@FORKS
def test_after_a_fork_it_says_what_to_do_and_does_not_hang(tmp_path: Path) -> None:
    told = play(make_world(tmp_path / "world"), "fork", tmp_path)
    assert "refused: this process was forked" in told
    assert 'vector_kwargs={"context": "spawn"}' in told


def test_in_fresh_processes_it_plays(tmp_path: Path) -> None:
    told = play(make_world(tmp_path / "world"), "spawn", tmp_path)
    assert told.count("(2, 8, 16, 3)") == 2, told


def test_who_was_not_forked_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_fork()
    monkeypatch.setattr("os.getpid", lambda: -1)
    with pytest.raises(ForkedError):
        refuse_fork()
