"""Two nodes of Ray, a replica that is killed, and its player who goes on at the other one."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.serve.client import Client
from tests.serve.test_session_store import assert_goes_on
from tests.worlds.make_world import make_world
from worldmodel.serve.session_store import ENDING
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.run_settings import RunSettings

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'worldmodel[fleet]'")
SETTINGS = RunSettings(device="cpu", engine="torch", dtype="float32", threads=1)


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")  # before anything of Ray's
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    yield
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.filterwarnings("ignore")  # those of Ray's own code
@pytest.mark.usefixtures("two_nodes")
def test_a_player_goes_on_when_a_replica_is_killed(tmp_path: Path) -> None:
    from worldmodel.serve.fleet import FleetPlan, run_fleet

    folder = make_world(tmp_path / "bar", is_placed=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    plan = FleetPlan(
        worlds=(str(folder),),
        store=tmp_path / "store",
        replicas=(2, 2),
        port=port,
        settings=SETTINGS,
    )
    with run_fleet(plan) as address:
        with Client(address) as client:
            key = client.play(seed=5)["resume"]
            second = 1 + round(NativeWorld.load(folder, SETTINGS).frames_per_second)
            seen = client.shown(lambda x: x.number > 2 * second).number
            (file,) = (tmp_path / "store").glob(f"*{ENDING}")
            with safe_open(file, "np") as kept:
                os.kill(json.loads(kept.metadata()["session"])["process"], signal.SIGKILL)
            client.close_code()
        began = time.monotonic()
        while True:
            assert time.monotonic() - began < 60
            try:
                with Client(address) as client:
                    client.say("hello", resume=key)
                    client.expect("playing")
                    shown = [client.shown() for _ in range(30)]
                    break
            except (AssertionError, OSError):  # the proxy has not noticed yet
                time.sleep(0.2)
        assert seen - 2 * second <= shown[0].number, "one second of play, and what was on the way"
        assert_goes_on(NativeWorld.load(folder, SETTINGS), 5, shown)
