"""`worldmodel serve`: flags that cannot be together are a sentence before anything is loaded."""

import socket
from pathlib import Path

import pytest

from tests.worlds.make_world import make_world
from worldmodel.__main__ import main
from worldmodel.serve.fleet import FleetPlan, Replica
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
