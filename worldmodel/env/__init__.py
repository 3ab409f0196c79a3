"""Learned worlds as Gymnasium environments.

    import gymnasium, worldmodel.env
    env = gymnasium.make("worldmodel/World-v0", world="doom-places", render_mode="rgb_array")
    envs = gymnasium.make_vec("worldmodel/World-v0", num_envs=8, world="doom-places")

`gymnasium.make("worldmodel.env:worldmodel/World-v0")` imports this module by itself. Observations
are the world's frames. A learned world knows no aim and no end: every reward is 0, no episode is
ever terminated, and after `max_frames` frames it is truncated. The same seed and the same actions
give the same frames.
"""

from worldmodel.config import UserError

try:
    import gymnasium
except ImportError as error:
    raise UserError(
        "worldmodel.env needs gymnasium, which is not installed: "
        "pip install -c constraints.txt '.[gym]'"
    ) from error

from worldmodel.env.batch import WorldVectorEnv
from worldmodel.env.single import WorldEnv

__all__ = ["ID", "WorldEnv", "WorldVectorEnv"]

ID = "worldmodel/World-v0"

if ID not in gymnasium.registry:
    gymnasium.register(
        id=ID,
        entry_point="worldmodel.env:WorldEnv",
        vector_entry_point="worldmodel.env:WorldVectorEnv",
    )
