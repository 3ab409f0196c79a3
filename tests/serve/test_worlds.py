"""Several worlds beside each other: each has its own hall, and play moves between them."""

from pathlib import Path

import pytest

from tests.serve.client import Client
from tests.serve.drawn_world import DrawnWorld
from tests.serve.test_sessions import Seen
from tests.worlds.wan.wan_tiny import make_wan_world
from worldmodel.action import Prompt
from worldmodel.serve.hall import Hall
from worldmodel.serve.running import run_server
from worldmodel.serve.server_limits import Limits
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.wan.world import WanWorld

FAST = 40.0


@pytest.fixture
def both(tiny: NativeWorld) -> list[Hall]:
    return [Hall(tiny, Limits(), FAST), Hall(DrawnWorld((120, 320)), Limits())]


def test_a_player_moves_between_worlds(both: list[Hall]) -> None:
    with run_server(both) as running, Client(running.address) as client:
        client.say("hello")
        told = client.expect("worlds")["worlds"]
        assert [world["name"] for world in told] == [both[0].world.name, "drawn"]
        assert [world["sessions"] for world in told] == [8, 1]
        assert all(start["picture"] for world in told for start in world["starts"])
        client.say("play", world=1, start=0, seed=1)
        keys = client.expect("playing")
        assert keys["world"] == 1
        assert client.shown().frame.shape == (120, 320, 3)
        with Client(running.address) as spectator:
            spectator.say("hello", watch=keys["watch"])
            (only,) = spectator.expect("worlds")["worlds"]
            assert only["name"] == "drawn"
            assert spectator.expect("playing")["world"] == 0
            assert spectator.shown().frame.shape == (120, 320, 3)
        client.say("play", world=0, start=1, seed=2)
        assert client.expect("playing")["world"] == 0
        rows, columns = both[0].world.frame_size
        client.shown(lambda x: x.frame.shape == (rows, columns, 3))
        assert [len(hall.sessions) for hall in both] == [1, 0]


def test_a_session_is_taken_up_again_in_its_world(both: list[Hall]) -> None:
    with run_server(both) as running:
        with Client(running.address) as client:
            keys = client.play(world=1)
        with Client(running.address) as client:
            client.say("hello", resume=keys["resume"])
            assert client.expect("playing")["world"] == 1


def test_who_finds_a_world_full_plays_on_in_the_other(both: list[Hall]) -> None:
    with (
        run_server(both) as running,
        Client(running.address) as first,
        Client(running.address) as second,
    ):
        first.play(world=1)
        second.play()
        second.say("play", world=1, start=0, seed=1)
        assert "full: all 1 sessions" in second.expect("notice")["why"]
        number = second.shown().number
        second.shown(lambda x: x.number > number + 3)
        with Client(running.address) as third:
            third.say("hello")
            third.say("play", world=2, start=0, seed=1)
            assert "world 2: 2 are played here" in third.why_closed()[0]


def test_words_steer_a_world_that_has_them(tmp_path: Path, tiny: NativeWorld) -> None:
    settings = RunSettings(device="cpu", dtype="float32", threads=1)
    wan = WanWorld.load(make_wan_world(tmp_path / "wan"), settings)
    hall = Hall(wan, Limits(), FAST)
    assert hall.capacity == 1
    with (
        run_server([hall, Hall(tiny, Limits(), FAST)]) as running,
        Client(running.address) as client,
        Client(running.address) as second,
    ):
        client.play()
        (session,) = hall.sessions
        seen = Seen()
        session.listeners.add(seen.hear)
        client.say("say", text="a desert")
        seen.wait(12)
        said = [picture.action.prompt for picture in seen.pictures if picture.action.prompt]
        assert said == [Prompt("a desert")]
        client.say("say", text="words that nobody has encoded")
        assert "nobody has encoded" in client.expect("notice")["why"]
        second.play(world=1)
        second.say("say", text="a forest")
        assert "takes no words" in second.expect("notice")["why"]
        second.say("say", text=" ")
        assert "must be words" in second.why_closed()[0]
