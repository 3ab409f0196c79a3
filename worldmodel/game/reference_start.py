"""A fresh episode of the real game as a start: the world goes on from the game's own frames.

It is a clip like any other start of the user's own, with the game's trajectory beside it, so that
what is played from there can be recorded, replayed, and held against the game.
"""

from pathlib import Path

import numpy as np

from worldmodel.action import IDLE
from worldmodel.game.recording_control import FOLDER
from worldmodel.players import RandomPlayer
from worldmodel.reference.game import OpenReal, ReferenceTrajectory
from worldmodel.reference.process import RealProcess
from worldmodel.reference.trajectory import LARGEST_SEED, save_trajectory
from worldmodel.state_spec import track_of
from worldmodel.storage.episode import Episode
from worldmodel.storage.episodes import save_episode
from worldmodel.worlds.find import find_world
from worldmodel.worlds.starts import origin_of
from worldmodel.worlds.world_folder import read_world_file

REAL = "real"  # what `--start` calls it
WALK = 35  # frames that a scripted player walks first: away from where the episode begins


def record_reference_start(world: str | None, seed: int, open_real: OpenReal) -> Path:
    """Play the first seconds of the episode of a seed; returns the clip of where that led."""
    file = read_world_file(find_world(world))
    origin = origin_of(file, [])
    origin.check_known()
    visible = file.transformer.context_frames + file.transformer.sink_frames
    player, seed = RandomPlayer(file.actions, seed), seed % (LARGEST_SEED + 1)
    actions = [IDLE]
    with RealProcess(open_real, origin.source) as game:
        answers = [game.ask(seed, [])]
        while len(answers) < WALK + visible:
            action = file.actions.known(player.act(len(answers)))
            answer = game.ask(None, [action])
            if answer.over:  # the frame before is a start as good as any
                break
            answers.append(answer)
            actions.append(action)
    seen = answers[-visible:]
    spec = seen[0].spec
    clip = Episode(
        frames=np.stack([answer.frame for answer in seen]),
        actions=actions[-visible:],
        frames_per_second=file.frames_per_second,
        buttons=file.actions.buttons,
        state=track_of(spec, [answer.state for answer in seen]) if spec else None,
    )
    path = FOLDER / f"{REAL}_{file.name}_{seed}.safetensors"
    save_episode(path, clip)
    save_trajectory(
        path,
        ReferenceTrajectory(seed=seed, actions=actions[1:], frame=seen[-1].frame),
        file.actions.buttons,
    )
    return path
