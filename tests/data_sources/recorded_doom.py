"""A few episodes of the real game on disk."""

from pathlib import Path

from worldmodel.data_sources.doom import Doom, DoomConfig
from worldmodel.data_sources.doom_players import make_doom_player
from worldmodel.data_sources.record import RecordPlan, record_episodes


def record_doom(folder: Path, frames: int, episode_frames: int, seed: int = 0) -> int:
    plan = RecordPlan(folder=folder, frames=frames, episode_frames=episode_frames, seed=seed)
    with Doom(DoomConfig()) as game:
        return record_episodes(game, make_doom_player, plan)
