"""Learned worlds as Gymnasium environments.

    import gymnasium, worldmodel.gym_env
    env = gymnasium.make("worldmodel/World-v0", world="doom-places", render_mode="rgb_array")
    envs = gymnasium.make_vec("worldmodel/World-v0", num_envs=8, world="doom-places")

`gymnasium.make("worldmodel.gym_env:worldmodel/World-v0")` imports this module by itself.
Observations are the world's frames. Reward and `terminated` are what a world with the stage
`events` has learned; elsewhere every reward is 0 and no episode is terminated. After `max_frames`
frames an episode is truncated. The same seed and the same actions give the same frames.

It may import `worlds`, and `game` for its window. Begin with `world_env`, then `vector_env`.
"""

from worldmodel.config import UserError

try:
    import gymnasium
except ImportError as error:
    raise UserError(
        "worldmodel.gym_env needs gymnasium, which is not installed: "
        "pip install -c constraints.txt '.[gym]'"
    ) from error

from worldmodel.gym_env.vector_env import WorldVectorEnv
from worldmodel.gym_env.world_env import WorldEnv

__all__ = ["ID", "WorldEnv", "WorldVectorEnv"]

ID = "worldmodel/World-v0"

if ID not in gymnasium.registry:
    gymnasium.register(
        id=ID,
        entry_point="worldmodel.gym_env:WorldEnv",
        vector_entry_point="worldmodel.gym_env:WorldVectorEnv",
    )
