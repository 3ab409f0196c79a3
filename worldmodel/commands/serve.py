"""Play a world here, for browsers."""

import argparse
import contextlib
import sys
import time
from typing import TYPE_CHECKING

from worldmodel.commands.argument_types import count, positive, workers
from worldmodel.config import UserError
from worldmodel.system.paths import to_path
from worldmodel.system.printable import counted, tell

if TYPE_CHECKING:
    import socket

    from worldmodel.serve.hall import Hall
    from worldmodel.serve.session_store import SessionStore

MOST_REPLICAS = 8


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command to its parser."""
    add = parser.add_argument
    add("worlds", nargs="*", metavar="WORLD", help="shipped ones or folders; none: the default one")
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: every network")
    add("--port", type=count, default=8000, help="0: any that is free")
    add("--name", action="append", default=[], help="a further name that browsers ask by")
    add("--sessions", type=positive, default=8, help="how many play a world at once")
    add("--store", type=to_path, help="folder of sessions that the next server goes on with")
    add("--fleet", action="store_true", help="as a Ray Serve deployment: needs --store")
    add("--replicas", type=positive, help=f"of a fleet, at most ({MOST_REPLICAS})")
    add("--behind-proxy", action="store_true", help="believe a local proxy's X-Forwarded-For")
    add("--device", default="auto", help="auto, cpu, cuda or mps")
    add("--engine", default="auto", help="auto, torch, torch-compiled or openvino")
    add("--threads", type=workers, default=0, help="0: one per core, or fewer if that is faster")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Serve worlds until the program is interrupted."""
    try:
        import starlette  # noqa: F401  # what is missing is told before a world is loaded
        import uvicorn  # noqa: F401
        import websockets  # noqa: F401
    except ImportError as error:
        raise UserError(f"{error}: pip install 'worldmodel[serve]'") from error
    if options.port > 65535:
        raise UserError(f"--port {options.port}: must be from 0 to 65535")
    if options.replicas and not options.fleet:
        raise UserError("--replicas is how many a fleet has: add --fleet")
    if options.fleet:
        _serve_fleet(options)
        return
    from worldmodel.serve.listening import listen

    with contextlib.ExitStack() as closes:
        # Before the minutes of loading: a port that is another program's, a world that is not there
        listening = closes.enter_context(listen(options.host, options.port))
        from worldmodel.serve.session_store import SessionStore
        from worldmodel.worlds.find import find_world

        store = None
        if options.store:
            store = SessionStore(options.store)
            closes.callback(store.close)
        for name in options.worlds:
            find_world(name)
        _serve(_load(options, store), options, listening)


def _serve_fleet(options: argparse.Namespace) -> None:
    """Until interrupted, wherever Ray's cluster has room."""
    from worldmodel.serve.fleet import FleetPlan, run_fleet
    from worldmodel.serve.listening import listen
    from worldmodel.serve.running import make_token
    from worldmodel.worlds.find import find_world, shipped_worlds
    from worldmodel.worlds.run_settings import RunSettings

    if options.store is None:
        raise UserError("--fleet needs --store FOLDER, which all its machines see")
    if options.behind_proxy:
        raise UserError("--fleet and --behind-proxy: Ray's own proxy stands before the replicas")
    folders = [find_world(name) for name in options.worlds]  # what is missing is told here
    listen(options.host, options.port).close()  # and a port that is another program's
    token = make_token(options.host, options.name)
    plan = FleetPlan(
        worlds=tuple(
            name if folder.parent == shipped_worlds() else str(folder.resolve())
            for name, folder in zip(options.worlds, folders, strict=True)
        )
        or (None,),
        store=options.store.resolve(),
        replicas=(1, options.replicas or MOST_REPLICAS),
        sessions=options.sessions,
        host=options.host,
        port=options.port,
        token=token,
        names=tuple(options.name),
        settings=RunSettings(device=options.device, engine=options.engine, threads=options.threads),
    )
    tell("asking Ray for a replica; the first one takes a minute", to=sys.stderr)
    with run_fleet(plan) as address:
        tell(f"open {address}{'#token=' + token if token else ''}  (Ctrl+C ends)")
        while True:
            time.sleep(0.5)


def _load(options: argparse.Namespace, store: "SessionStore | None") -> "list[Hall]":
    """A hall for each world."""
    from worldmodel.serve.hall import Hall
    from worldmodel.serve.server_limits import Limits
    from worldmodel.worlds.find import open_world
    from worldmodel.worlds.run_settings import RunSettings

    settings = RunSettings(device=options.device, engine=options.engine, threads=options.threads)
    halls = []
    for name in options.worlds or [None]:
        told = name or "the default world"
        tell(f"loading {told}; the first time it takes a minute", to=sys.stderr)
        world = open_world(name, settings)
        halls.append(Hall(world, Limits(sessions=options.sessions), store=store))
        tell(f"{world.name}: {world.running_on}; {halls[-1].batch.how}")
        if halls[-1].capacity < options.sessions:
            tell(f"{world.name} plays {counted(halls[-1].capacity, 'session')} at a time")
    return halls


def _serve(halls: "list[Hall]", options: argparse.Namespace, listening: "socket.socket") -> None:
    """Until interrupted."""
    from worldmodel.serve.running import run_server

    with run_server(
        halls,
        options.host,
        options.port,
        options.name,
        is_behind_proxy=options.behind_proxy,
        listening=listening,
    ) as running:
        tell(f"open {running.link}  (Ctrl+C ends)")
        while running.thread.is_alive():
            time.sleep(0.5)  # a signal in `Thread.join` has Python take the thread for ended
        raise UserError("the server has stopped by itself; what it said is above")
