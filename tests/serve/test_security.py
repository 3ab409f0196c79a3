"""Each attack is tried on a real server, and whoever is refused is told why."""

import base64
import contextlib
import hmac
import http.client
import json
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.serve.client import WITHIN, Client
from worldmodel.config import UserError
from worldmodel.serve.hall import Hall
from worldmodel.serve.outbox import ON_THE_WAY
from worldmodel.serve.protocol import ProtocolError, read_message
from worldmodel.serve.running import Running, is_any, is_loopback, make_token, run_server
from worldmodel.serve.server_limits import Limits
from worldmodel.worlds.native import NativeWorld

FAST = 40.0


@pytest.fixture(scope="module")
def running(tiny: NativeWorld) -> Iterator[Running]:
    limits = Limits(hello_within=0.5, sockets_an_address=4)
    with run_server(Hall(tiny, limits, FAST)) as found:
        yield found


@pytest.fixture(scope="module")
def guarded(tiny: NativeWorld) -> Iterator[Running]:
    with run_server(Hall(tiny, Limits(), FAST), names=["play.example.org"]) as found:
        yield found


def get(running: Running, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(running.address).port or 0)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    answer.body = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


def refused(running: Running, **options: Any) -> str:
    with pytest.raises(InvalidStatus) as error:
        Client(running.address, **options).__enter__()
    assert error.value.response.status_code == 403
    return (error.value.response.body or b"").decode()


def still_plays(running: Running) -> None:
    with Client(running.address) as client:
        client.play(token=running.token)
        client.shown()


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", "x://["])
def test_a_foreign_page_opens_no_socket(running: Running, origin: str) -> None:
    assert refused(running, origin=origin)


def test_a_socket_without_an_origin_is_refused(running: Running) -> None:
    assert "Origin" in refused(running, origin=None)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[", "10.0.0.1"])
def test_a_foreign_name_gets_no_page(running: Running, host: str) -> None:
    answer = get(running, "/", Host=host)
    assert answer.status in (400, 403)
    assert b"<html" not in answer.body  # type: ignore[attr-defined]


def test_an_address_is_a_name_only_where_all_networks_are_served(tiny: NativeWorld) -> None:
    with run_server(Hall(tiny, Limits(), FAST), "0.0.0.0") as everywhere:
        assert len(everywhere.token) >= 22
        assert get(everywhere, "/", Host="10.0.0.1").status == 200
        assert get(everywhere, "/", Host="evil.example").status == 403


def test_a_token_is_needed_where_others_can_ask(guarded: Running, running: Running) -> None:
    assert running.token == ""
    assert len(guarded.token) >= 22  # 128 bits
    assert guarded.link.endswith(f"#token={guarded.token}")
    for wrong in ("", "x", guarded.token[:-1], guarded.token + "x", "é", "\ud800"):
        with Client(guarded.address) as client:
            client.say("hello", token=wrong)
            why, code = client.why_closed()
            assert (code, "token" in why) == (1008, True)
    still_plays(guarded)


def test_everybody_who_can_be_asked_from_elsewhere_has_a_token_of_128_bits() -> None:
    assert make_token("127.0.0.1") == make_token("::1") == make_token("localhost") == ""
    made = [
        make_token("0.0.0.0"),
        make_token("192.168.0.1"),
        make_token("127.0.0.1", ["play.example.org"]),
        make_token("127.0.0.1", is_behind_proxy=True),
    ]
    assert [len(base64.urlsafe_b64decode(f"{token}==")) for token in made] == [16] * 4
    assert len(set(made)) == 4


def test_how_long_a_comparison_takes_tells_nothing_of_a_secret(
    guarded: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[bytes] = []
    compare = hmac.compare_digest

    def watched(one: bytes, other: bytes) -> bool:
        compared.extend((one, other))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    with Client(guarded.address) as client:
        keys = client.play(token=guarded.token)
        for hello in ({"resume": "x", "token": guarded.token}, {"watch": "x"}):
            with Client(guarded.address) as thief:
                thief.say("hello", **hello)
                thief.why_closed()
    secrets = {guarded.token.encode(), keys["resume"].encode(), keys["watch"].encode()}
    assert secrets <= set(compared)


def test_resuming_needs_the_token_and_the_key(guarded: Running) -> None:
    with Client(guarded.address) as client:
        key = client.play(token=guarded.token)["resume"]
        for hello in ({"resume": key}, {"resume": "x", "token": guarded.token}, {"watch": "x"}):
            with Client(guarded.address) as thief:
                thief.say("hello", **hello)
                assert thief.why_closed()[1] == 1008
        watch = guarded.server.hall.sessions[-1].watch_key
        with Client(guarded.address) as thief:  # the key to watch is none to play with
            thief.say("hello", token=guarded.token, resume=watch)
            assert thief.why_closed()[1] == 1008
        client.shown()


def test_no_message_is_unpacked(running: Running) -> None:
    """Packed, a message of few bytes could be one of many."""
    with Client(running.address, compression="deflate") as client:
        assert client.socket.response is not None
        assert "Sec-WebSocket-Extensions" not in client.socket.response.headers


def test_a_message_that_is_too_long_ends_its_socket_alone(running: Running) -> None:
    with Client(running.address) as client:
        client.socket.send("x" * 4097)
        assert client.why_closed() == ("a message has 4096 bytes at most", 1008)
    with Client(running.address) as client:
        client.socket.send("x" * 100_000)  # not even read to its end
        assert client.close_code() == 1009
    still_plays(running)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 4000,
        '{"type": "open", "path": "/etc/passwd"}',
        '{"type": "act"}',  # before hello
        '{"type": "hello", "token": 1}',
        '{"type": "hello", "token": "' + "x" * 65 + '"}',
    ],
)
def test_what_is_no_hello_is_refused(running: Running, text: str) -> None:
    with Client(running.address) as client:
        client.socket.send(text)
        assert client.why_closed()[1] == 1008


@pytest.mark.parametrize(
    "message",
    [
        {"type": "play", "start": -1, "seed": 1},
        {"type": "play", "start": "../x", "seed": 1},
        {"type": "play", "start": True, "seed": 1},
        {"type": "play", "start": 99, "seed": 1},
        {"type": "play", "start": 0, "seed": 2**31},
        {"type": "save"},  # before play
        {"type": "hello"},  # again
    ],
)
def test_what_is_no_play_is_refused(running: Running, message: dict[str, Any]) -> None:
    with Client(running.address) as client:
        client.say("hello")
        client.expect("worlds")
        client.socket.send(json.dumps(message))
        assert client.why_closed()[1] == 1008


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "act", "buttons": "KeyW"}',
        '{"type": "act", "buttons": [1]}',
        '{"type": "act", "mouse": [NaN, 0]}',
        '{"type": "act", "mouse": [1e999, 0]}',
        '{"type": "act", "mouse": [1]}',
        '{"type": "act", "mouse": [1' + "0" * 400 + ", 0]}",
        '{"type": "act", "time": Infinity}',
        '{"type": "act", "time": {}}',
        '{"type": "ack", "frame": 1.5}',
        '{"type": ["hello"]}',
    ],
)
def test_what_no_page_sends_is_no_message(text: str) -> None:
    with pytest.raises(ProtocolError):
        read_message(text)


def test_binary_messages_are_refused(running: Running) -> None:
    with Client(running.address) as client:
        client.socket.send(b"\x80\x04.")
        assert "not binary" in client.why_closed()[0]


def test_a_flood_ends_its_socket_alone(running: Running) -> None:
    with Client(running.address) as client, Client(running.address) as other:
        other.play()
        client.say("hello")
        client.expect("worlds")
        with contextlib.suppress(ConnectionClosed):  # it may be over before all are said
            for _ in range(200):
                client.say("ack", frame=1)
        why, code = client.why_closed()
        assert (why, code) == ("more than 120 messages in a second", 1008)
        other.shown()


def test_who_says_nothing_is_sent_away(running: Running) -> None:
    with Client(running.address) as client:
        began = time.monotonic()
        assert "no hello" in client.why_closed()[0]
        assert time.monotonic() - began < 5


def test_an_address_has_so_many_sockets_whatever_it_calls_itself(running: Running) -> None:
    forged = {"X-Forwarded-For": "203.0.113.9"}
    with contextlib.ExitStack() as clients:
        for _ in range(4):
            clients.enter_context(Client(running.address))
        one_more = clients.enter_context(Client(running.address, additional_headers=forged))
        assert "more than 4 connections" in one_more.why_closed()[0]
    for _ in range(100):
        if not running.server.addresses:
            break
        threading.Event().wait(0.02)
    still_plays(running)


def test_all_addresses_together_have_so_many_sockets(tiny: NativeWorld) -> None:
    limits = Limits(sockets=3, hello_within=20.0)
    with (
        run_server(Hall(tiny, limits, FAST)) as crowded,
        Client(crowded.address) as player,
        Client(crowded.address),
        Client(crowded.address),
        Client(crowded.address) as one_more,
    ):
        assert "full: more than 3 connections" in one_more.why_closed()[0]
        player.play()
        player.shown()


def test_who_begins_nothing_is_sent_away(tiny: NativeWorld) -> None:
    limits = Limits(drop_after=0.3)
    with run_server(Hall(tiny, limits, FAST)) as idle, Client(idle.address) as client:
        client.say("hello")
        assert "nothing was begun" in client.why_closed()[0]


@pytest.mark.parametrize(
    "path",
    [
        "/../pyproject.toml",
        "/..%2f..%2fetc/passwd",
        "/serve.js/",
        "/serve.js%00.css",
        "//etc/passwd",
        "/page/index.html",
        "/main.js",
    ],
)
def test_no_other_file_is_served(running: Running, path: str) -> None:
    answer = get(running, path, Host="localhost")
    assert answer.status in (307, 400, 404)
    location = answer.getheader("location") or ""
    assert location in ("", urlsplit(location)._replace(path="/serve.js").geturl())


def test_every_answer_has_a_strict_policy(running: Running) -> None:
    for path in ("/", "/serve.js", "/input.js", "/serve.css", "/nothing"):
        headers = get(running, path, Host="localhost").headers
        assert headers["Content-Security-Policy"].startswith("default-src 'self';")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"


def test_a_browser_that_acknowledges_nothing_gets_two_frames(running: Running) -> None:
    others = set(running.server.connections)  # of tests before, on their way out
    with Client(running.address) as client:
        client.acknowledges = False
        client.play()
        first, second = client.shown(), client.shown()
        (outbox,) = (c.outbox for c in running.server.connections - others)
        waited = 0  # the newest frame that has waited; how fast they come depends on the machine
        ends = time.monotonic() + 6 * WITHIN
        while waited <= second.number + 5:
            assert time.monotonic() < ends
            waiting = outbox._waiting
            waited = waited if waiting is None else waiting.number
            time.sleep(0.01)
        assert outbox.most_on_the_way == ON_THE_WAY
        client.say("ack", frame=second.serial)
        third = client.shown()
        assert (first.serial, second.serial, third.serial) == (1, 2, 3)
        assert third.number >= waited, "only the newest frame waited"


def test_which_addresses_are_this_machine_alone() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "::1", "localhost", "127.8.8.8")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.1", "example.org", "")))
    assert is_any("0.0.0.0")
    assert is_any("::")


@pytest.mark.parametrize("host", ["é..a", "n" * 300, "256.1.1.1", "a\0b"])
def test_a_host_that_is_none_is_refused_in_a_sentence(host: str, tiny: NativeWorld) -> None:
    with (
        pytest.raises(UserError, match="cannot be listened on"),
        run_server(Hall(tiny, Limits()), host),
    ):
        pass


def test_a_spectator_who_leaves_at_once_is_not_counted(running: Running) -> None:
    with Client(running.address) as client:
        watch = client.play()["watch"]
        server = running.server
        for _ in range(server.limits.spectators + 2):
            with Client(running.address) as spectator:
                spectator.say("hello", watch=watch)
        deadline = time.monotonic() + 10
        while server.spectators and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not server.spectators
        client.shown()
