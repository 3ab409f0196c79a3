"""`worldmodel serve`: flags that cannot be together are a sentence before anything is loaded."""

import os
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.worlds.make_world import make_world
from worldmodel.__main__ import main, make_parser
from worldmodel.config import UserError
from worldmodel.serve import fleet
from worldmodel.serve.fleet import FleetPlan, Replica
from worldmodel.serve.running import is_loopback
from worldmodel.worlds.run_settings import RunSettings


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--fleet", "--fleet needs --store FOLDER"),
        ("--fleet --store here --behind-proxy", "Ray's own proxy stands before"),
        ("--fleet --store here nowhere", "unknown world 'nowhere'"),
        ("--replicas 3", "add --fleet"),
        ("--port 65536", "from 0 to 65535"),
        ("--port 0 --store /dev/null/x", "cannot be a folder of sessions"),
    ],
)
def test_what_cannot_be_served_is_a_sentence(
    flags: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["serve", *flags.split()]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_without_flags_only_this_machine_is_served(tmp_path: Path) -> None:
    assert is_loopback(make_parser().parse_args(["serve"]).host)
    assert is_loopback(FleetPlan(worlds=(None,), store=tmp_path).host)


@pytest.mark.parametrize(
    ("flags", "is_open"), [("", False), ("--host 0.0.0.0", True), ("--name play.example.org", True)]
)
def test_a_fleet_has_a_token_where_others_can_ask(
    flags: str, is_open: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[FleetPlan] = []

    def run(plan: FleetPlan) -> None:
        plans.append(plan)
        raise UserError("no Ray is asked here")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fleet, "run_fleet", run)
    assert main(["serve", "--fleet", "--store", "here", "--port", "0", *flags.split()]) == 2
    assert [bool(plan.token) for plan in plans] == [is_open]


def test_a_cluster_of_our_own_is_on_loopback_and_asks_for_a_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[dict[str, Any]] = []
    environment: dict[str, str] = {}
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    fleet._prepare()
    fleet._start(SimpleNamespace(init=lambda *_, **options: asked.append(options)))
    assert environment["RAY_AUTH_MODE"] == "token"
    assert len(environment["RAY_AUTH_TOKEN"]) == 64
    assert [options["_node_ip_address"] for options in asked] == ["127.0.0.1"]


def test_a_replica_on_every_network_goes_by_the_names_of_its_machine(tmp_path: Path) -> None:
    folder = make_world(tmp_path / "bar")
    settings = RunSettings(device="cpu", engine="torch", dtype="float32", threads=1)
    store = tmp_path / "store"
    for host, is_any in (("0.0.0.0", True), ("127.0.0.1", False)):
        replica = Replica(
            FleetPlan(worlds=(str(folder),), store=store, host=host, settings=settings)
        )
        door = replica.__serve_build_asgi_app__()
        assert door.takes_addresses == is_any
        assert (socket.gethostname().lower() in door.names) == is_any
        assert "localhost" in door.names
        replica.__del__()
