"""From episodes to a world that is played, through every stage, at tiny size."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from play import open_world
from tests.training.wan.tiny import LOOP, Root, preview, write_walks
from worldmodel.game.cli import main
from worldmodel.wan.lora import LoraConfig
from worldmodel.worlds.wan.world_file import read_wan_world

SHORT = replace(LOOP, steps=3, save_every=3)


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2, alpha=2.0)])
def test_episodes_become_a_world_that_is_played(
    lora: LoraConfig | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Root(tmp_path)
    write_walks(tmp_path / "walks")
    made = root.run(root.latents())
    assert made["clips"] == 6
    own = {"loop": SHORT, "lora": lora}
    root.run(root.teacher(**own, preview=preview(root)))
    root.run(root.bidirectional(**own, preview=preview(root)))
    root.run(root.student(**own))
    root.run(root.trajectories())
    root.run(root.ode(**own))
    root.run(root.dmd(**own, preview=preview(root)))
    for stage in ("teacher", "bidirectional", "dmd"):
        assert list((root.runs / stage / "samples").glob("*.png"))
        assert list((root.runs / stage / "samples").glob("*.mp4"))
    assert (root.runs / "dmd" / "lora.safetensors").exists() == (lora is not None)
    root.run(root.world(), "world")
    world = read_wan_world(root.runs / "world")
    assert world.actions.buttons[:2] == ("KeyW", "KeyS")
    assert (world.window.window_frames, world.window.sink_frames) == (3, 1)
    assert world.camera is not None
    assert set(world.camera.motions) == {"KeyW", "KeyL"}
    monkeypatch.chdir(tmp_path)
    command = ["--world", str(root.runs / "world"), "--headless", "--frames", "4"]
    command += ["--device", "cpu", "--dtype", "float32", "--threads", "1", "--record", "played"]
    assert main(command, open_world) == 0
    rows = Path("played.jsonl").read_text().splitlines()
    hashes = [json.loads(line).get("hash") for line in rows[1:]]
    assert len(set(filter(None, hashes))) == 5
