"""Sessions come and go, and each is the one that is played alone."""

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from tests.serve.client import Client
from worldmodel.action import Action
from worldmodel.serve.hall import Hall, RefusedError
from worldmodel.serve.running import run_server
from worldmodel.serve.served_session import Note, Picture, ServedSession
from worldmodel.serve.server_limits import Limits
from worldmodel.worlds.native import NativeWorld

FAST = 40.0  # frames a second


class Seen:
    """All that a session shows, with a way to wait for it."""

    def __init__(self) -> None:
        self.pictures: list[Picture] = []
        self.notes: list[Note] = []
        self._changed = threading.Condition()

    def hear(self, what: Picture | Note) -> None:
        with self._changed:
            if isinstance(what, Picture):
                self.pictures.append(what)
            else:
                self.notes.append(what)
            self._changed.notify_all()

    def wait(self, frames: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.pictures) >= frames, 20)


def assert_as_alone(world: NativeWorld, session: ServedSession, seen: Sequence[Picture]) -> None:
    """Every picture, and every state that was kept, equals that of the same session alone."""
    alone = world.another()
    kept = {moment.number: moment.state.arrays for moment in session.moments}
    assert np.array_equal(seen[0].frame, alone.reset(session.start, session.seed))
    for number, picture in enumerate(seen[1:], 1):
        assert picture.number == number
        if found := kept.pop(number - 1, None):
            expected = alone.save_state().arrays
            assert found.keys() == expected.keys()
            assert all(np.array_equal(found[name], expected[name]) for name in found)
        assert np.array_equal(picture.frame, alone.generate(picture.action)), number
        alone.remember()
    assert len(kept) < len(session.moments), "no state was compared"


def test_sessions_join_and_leave_without_changing_each_other(
    batched: NativeWorld,
) -> None:
    hall, rng = (
        Hall(batched, Limits(sessions=5, moments=200, moment_every=0.0), FAST),
        np.random.default_rng(0),
    )
    joined: list[tuple[ServedSession, Seen]] = []
    with hall.open():
        for number in range(5):
            seen = Seen()
            session = hall.join(number % 2, 7 + number, "player", seen.hear)
            joined.append((session, seen))
            for frames in range(1, 6):
                seen.wait(frames)
                for other, _ in joined:
                    held = frozenset(b for b in batched.actions.buttons if rng.random() < 0.5)
                    other.act(Action(held, (float(rng.normal(0, 4)), 0.0)), 1.0)
            if number == 2:
                hall.end(joined[0][0], "left")
        joined[-1][1].wait(14)  # the cache has wrapped in most of them
    for session, seen in joined:
        assert any(picture.action.buttons for picture in seen.pictures)
        assert_as_alone(batched, session, seen.pictures)
    assert len(joined[0][1].pictures) < len(joined[1][1].pictures), "the first one left"
    two = [seen.pictures[8].frame for _, seen in joined[:2]]
    assert not np.array_equal(two[0], two[1]), "sessions that are all the same prove nothing"


def test_saving_loading_and_rewinding(tiny: NativeWorld) -> None:
    hall = Hall(tiny, Limits(moments=3), FAST)
    with run_server(hall) as running, Client(running.address) as client:
        client.play()
        client.say("load")
        assert "nothing was saved" in client.expect("notice")["why"]
        client.shown(lambda x: x.number >= 5)
        client.say("save")
        client.expect("notice")
        saved = client.shown().number
        once = {shown.number: shown.data for shown in (client.shown() for _ in range(40))}
        client.say("load")
        assert client.expect("notice")["why"] == "loaded"
        again = {shown.number: shown.data for shown in (client.shown() for _ in range(40))}
        both = once.keys() & again.keys()
        assert len(both) >= 5
        assert all(once[number] == again[number] for number in both), "idle, so the same again"
        far = client.shown(lambda x: x.number > saved + 2 * FAST).number
        client.say("rewind")  # a moment is kept every second
        back = client.shown(lambda x: x.number < far)
        if back.number in again:
            assert back.data == again[back.number]
        client.shown(lambda x: x.number > far)


def test_a_lost_player_comes_back_to_the_same_frame(tiny: NativeWorld) -> None:
    hall = Hall(tiny, Limits(), FAST)
    with run_server(hall) as running:
        with Client(running.address) as client:
            key = client.play()["resume"]
            seen = client.shown(lambda x: x.number >= 8)
        (session,) = hall.sessions
        for _ in range(200):
            if session.parked:
                break
            threading.Event().wait(0.02)
        assert session.parked
        threading.Event().wait(0.2)  # a frame may have been on its way
        assert session.picture is not None
        stood = session.picture.number
        threading.Event().wait(0.2)
        assert session.picture.number == stood >= seen.number
        with Client(running.address) as client:
            client.say("hello", resume=key)
            client.expect("playing")
            shown = client.shown()
            assert shown.number in (stood, stood + 1)
            client.shown(lambda x: x.number > stood + 3)


def test_a_spectator_sees_the_same_and_cannot_play(tiny: NativeWorld) -> None:
    with (
        run_server(Hall(tiny, Limits(spectators=1), FAST)) as running,
        Client(running.address) as player,
        Client(running.address) as spectator,
        Client(running.address) as late,
    ):
        watch = player.play()["watch"]
        spectator.say("hello", watch=watch)
        assert "resume" not in spectator.expect("playing")
        late.say("hello", watch=watch)
        assert "as many people" in late.why_closed()[0]
        mine, theirs = {}, {}
        for _ in range(30):
            shown, seen = player.shown(), spectator.shown()
            mine[shown.number], theirs[seen.number] = shown.data, seen.data
        both = mine.keys() & theirs.keys()
        assert len(both) >= 5
        assert all(mine[number] == theirs[number] for number in both)
        spectator.say("act", buttons=list(tiny.actions.buttons), mouse=[0, 0])
        assert spectator.why_closed()[0] == "who watches cannot play"
        player.shown()


def test_a_hidden_page_stands_still_until_it_goes_on(tiny: NativeWorld) -> None:
    with run_server(Hall(tiny, Limits(), FAST)) as running, Client(running.address) as client:
        client.play()
        client.shown()
        client.say("park")
        assert client.expect("parked")["why"] == "paused"
        client.say("act", buttons=[tiny.actions.buttons[0]], mouse=[0, 0])
        client.expect("going")
        client.shown()


def test_who_stands_still_is_parked_and_dropped_with_a_reason(tiny: NativeWorld) -> None:
    limits = Limits(park_after=0.2, drop_after=0.3)
    hall = Hall(tiny, limits, FAST)
    with run_server(hall) as running, Client(running.address) as client:
        client.play()
        assert "no input" in client.expect("parked")["why"]
        why, code = client.why_closed("ended")
        assert "stood still" in why
        assert code == 1000
        assert not hall.sessions


def test_a_session_that_breaks_ends_alone(
    tiny: NativeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    hall, well, ill = Hall(tiny, Limits(), FAST), Seen(), Seen()
    with hall.open():
        hall.join(0, 1, "player", well.hear)
        session = hall.join(1, 2, "player", ill.hear)
        ill.wait(3)

        def broken(_: object) -> None:
            raise RuntimeError("numbers that are none")

        monkeypatch.setattr(session.world, "generate", broken)
        well.wait(len(well.pictures) + 5)
    assert [note.kind for note in ill.notes] == ["ended"]
    assert "broke" in ill.notes[0].why


def test_a_full_server_says_so_and_ends_nobody(tiny: NativeWorld) -> None:
    hall = Hall(tiny, Limits(sessions=1), FAST)
    with (
        run_server(hall) as running,
        Client(running.address) as first,
        Client(running.address) as second,
    ):
        first.play()
        second.say("hello")
        second.expect("worlds")
        second.say("play", start=0, seed=1)
        assert "full: all 1 sessions" in second.why_closed()[0]
        first.shown()
    with pytest.raises(RefusedError, match="closing"):
        hall.join(0, 1, "player")
