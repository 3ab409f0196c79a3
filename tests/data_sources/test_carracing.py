"""The car that the recipe of CarRacing records, and who drives it."""

import importlib.util
import subprocess
import sys

import pytest

DRIVE = """
import gymnasium as gym
from configs.carracing.drive import Drive, driver
env = Drive(render_mode="rgb_array")
total, speeds = 0.0, []
env.reset(seed=3)
choose = driver(env)
for _ in range(250):
    action = choose(None)
    assert action in range(5)
    _, reward, terminated, _, info = env.step(action)
    total += reward
    speeds.append(info["speed"])
picture = env.render()
assert picture.shape == (400, 600, 3) and picture.std() > 20
print(total, max(speeds))
"""


def test_the_driver_finds_road_and_the_numbers_of_the_panel_are_told() -> None:
    if importlib.util.find_spec("Box2D") is None:
        pytest.skip("needs Box2D: pip install -c constraints.txt '.[gym,box2d]'")
    # In a process of its own: Box2D's module ends some interpreters in which others are loaded.
    ran = subprocess.run([sys.executable, "-c", DRIVE], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    total, fastest = map(float, ran.stdout.split()[-2:])
    assert total > 30, "every new piece of road pays about 3"
    assert fastest > 10
