"""The same server as a Ray Serve deployment: replicas on many machines, players stay on theirs.

    run_fleet(FleetPlan(worlds=("doom-rooms",), store=Path("/shared/sessions"), replicas=(2, 8)))

Open sockets count as ongoing requests, so autoscaling follows players. Every session is in the
store once a second: when a replica is killed or replaced, its players' pages reconnect with their
keys, and whichever replica they reach goes on from there.
"""

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worldmodel.config import UserError
from worldmodel.serve.app import make_app
from worldmodel.serve.door import LOOPBACK
from worldmodel.serve.hall import Hall
from worldmodel.serve.running import is_any, shown_name
from worldmodel.serve.server_limits import Limits
from worldmodel.serve.session_store import SessionStore
from worldmodel.worlds.find import open_world
from worldmodel.worlds.run_settings import RunSettings

NAME = "worldmodel"
BUSY = 0.75  # share of a replica's sessions at which another one is started


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetPlan:
    """What every replica of a fleet serves, and with how much."""

    worlds: tuple[str | None, ...]
    store: Path  # a folder that all machines see
    replicas: tuple[int, int] = (1, 8)  # at least, at most
    sessions: int = 8  # of each world on a replica
    cores: float = 1.0  # of a replica
    gpus: float = 0.0
    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    names: tuple[str, ...] = ()
    settings: RunSettings = field(default_factory=RunSettings)

    @property
    def limits(self) -> Limits:
        """Those of a server; a proxy stands before it, so all sockets have one address."""
        sockets = Limits().sockets
        return Limits(sessions=self.sessions, sockets=sockets, sockets_an_address=sockets)


class Replica:
    """One server of the fleet, in a process of Ray's."""

    def __init__(self, plan: FleetPlan) -> None:
        self.plan = plan
        self._open = contextlib.ExitStack()
        self.store = SessionStore(plan.store)
        self._open.callback(self.store.close)
        self.halls = [
            self._open.enter_context(
                Hall(open_world(name, plan.settings), plan.limits, store=self.store).open()
            )
            for name in plan.worlds
        ]

    def __serve_build_asgi_app__(self) -> Any:  # Ray Serve asks for this name
        host = self.plan.host
        names = [*LOOPBACK, shown_name(host), *self.plan.names]
        return make_app(self.halls, self.plan.token, names, takes_addresses=is_any(host))[0]

    def __del__(self) -> None:
        """Ray Serve calls it when a replica is replaced: sessions are saved once more."""
        self._open.close()


@contextlib.contextmanager
def run_fleet(plan: FleetPlan) -> Iterator[str]:
    """Deploy on the cluster that Ray knows, or on this machine: the address, until the end."""
    _prepare()
    try:
        import ray
        from ray import serve
    except ImportError as error:
        raise UserError(f"--fleet: {error}: pip install 'worldmodel[fleet]'") from error
    if not ray.is_initialized():
        _start(ray)
    serve.start(http_options={"host": plan.host, "port": plan.port})
    least, most = plan.replicas
    sockets = plan.limits.sockets
    deployment = serve.deployment(
        name=NAME,
        max_ongoing_requests=2 * sockets,  # the server itself says that it is full, and why
        autoscaling_config={
            "min_replicas": least,
            "max_replicas": most,
            "target_ongoing_requests": max(1.0, BUSY * plan.sessions * len(plan.worlds)),
        },
        ray_actor_options={"num_cpus": plan.cores, "num_gpus": plan.gpus},
        graceful_shutdown_timeout_s=5.0,
    )(serve.ingress()(Replica))
    try:
        try:
            serve.run(deployment.bind(plan), name=NAME, route_prefix="/")
        except RuntimeError as error:
            raise UserError(f"Ray could not start a replica: {str(error)[:300]}") from error
        yield f"http://{shown_name(plan.host)}:{plan.port}/"
    finally:
        serve.shutdown()


def _prepare() -> None:
    """What Ray reads when it is imported.

    Machines that load worlds start its processes slowly: its own 5 s end in a loop there. Whoever
    reaches its ports can run code, so a cluster of our own asks for a token that nobody knows.
    """
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
    if not os.environ.get("RAY_ADDRESS") and "ray" not in sys.modules:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _start(ray: Any) -> None:
    """Join the cluster that RAY_ADDRESS names, or be one on loopback."""
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False)
    else:
        ray.init(
            "local", include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1"
        )
