"""How many people a machine serves: the real server, played by sockets of another process.

A spacing is the time between two frames of one player. A frame is in time if it comes no later
than half a frame after it should; the full rate is held if every player gets 97 of 100 frames and
95 of 100 are in time.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from worldmodel.config import UserError
from worldmodel.serve.hall import Hall
from worldmodel.serve.running import Running, run_server
from worldmodel.serve.server_limits import Limits
from worldmodel.system.memory import resident_mb
from worldmodel.system.printable import counted, tell, tell_json
from worldmodel.system.progress import note
from worldmodel.world import World

LATE = 1.5  # frames
FULL, IN_TIME = 0.97, 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """What so many players got; times in milliseconds."""

    sessions: int
    first_frame_ms: tuple[float, float]  # middle and longest, from asking to play
    frames_per_second: float  # of whoever got fewest
    spacing_ms: tuple[float, float, float]  # p50, p95, p99 of all players
    in_time: float  # share of all frames
    cpu_ms_a_tick: float  # of the whole server process
    memory_mb: float  # resident, of the whole server process while they play
    holds: bool  # the world's full rate


def bench_served(world: World, most: int, seconds: float) -> dict[str, Any]:
    """Rows for 1, 2, 4, … players, up to `most` or to the first number that is too many."""
    rows = list(_rows(world, most, seconds))
    held = [row.sessions for row in rows if row.holds]
    return {
        "world": world.name,
        "on": world.running_on,
        "frames_per_second": world.frames_per_second,
        "rows": [asdict(row) for row in rows],
        "sessions_at_full_rate": max(held, default=0),
        "is_bound": not rows[-1].holds,  # else more than were tried may be held
    }


def print_served(found: dict[str, Any]) -> None:
    """A table, then one line of JSON."""
    tell(f"{found['world']} on {found['on']}, {found['frames_per_second']:g} frames/s")
    tell(
        "sessions  first frame ms  frames/s  spacing p50, p95, p99 ms  in time  CPU ms a tick"
        "  memory MB"
    )
    for row in found["rows"]:
        spacing = ", ".join(f"{ms:.0f}" for ms in row["spacing_ms"])
        first = "{:.0f}, {:.0f}".format(*row["first_frame_ms"])
        tell(
            f"{row['sessions']:8}  {first:>14}  {row['frames_per_second']:8.1f}  {spacing:>24}  "
            f"{row['in_time']:7.1%}  {row['cpu_ms_a_tick']:13.1f}  {row['memory_mb']:9.0f}"
        )
    more = "" if found["is_bound"] else " or more"
    tell(f"at the full rate this machine serves {found['sessions_at_full_rate']}{more}")
    tell_json(found)


def _rows(world: World, most: int, seconds: float) -> Iterator[Served]:
    limits = Limits(sessions=most, sockets_an_address=most + 1, sockets=most + 1)
    players = 1
    with run_server(Hall(world, limits)) as running:
        while True:
            players = min(players, running.server.hall.capacity)
            note(f"{counted(players, 'player')} for {seconds:g} s")
            row = _measure(running, players, seconds)
            yield row
            if not row.holds or players >= running.server.hall.capacity:
                return
            players *= 2


def _measure(running: Running, players: int, seconds: float) -> Served:
    hall = running.server.hall
    found, cpu = _play(running, players, seconds)
    memory = resident_mb()
    for session in hall.sessions:
        hall.end(session, "measured")
    if why := next((player["refused"] for player in found if player["refused"]), ""):
        raise UserError(f"a player of the benchmark was sent away: {why}")
    if min(len(player["came"]) for player in found) < 2:
        raise UserError(f"no two frames came within {seconds:g} s; give it more --seconds")
    spacings = np.concatenate([np.diff([at for at, _ in player["came"]]) for player in found])
    rate = min(len(player["came"]) for player in found) / seconds
    ticks = max(player["came"][-1][1] - player["came"][0][1] for player in found)
    in_time = float(np.mean(spacings < LATE / hall.frames_per_second))
    first = [player["first"] for player in found]
    p50, p95, p99 = (float(x) for x in 1000 * np.percentile(spacings, (50, 95, 99)))
    return Served(
        sessions=players,
        first_frame_ms=(1000 * float(np.median(first)), 1000 * max(first)),
        frames_per_second=rate,
        spacing_ms=(p50, p95, p99),
        in_time=in_time,
        cpu_ms_a_tick=1000 * cpu / max(1, ticks),
        memory_mb=round(memory, 1),
        holds=rate >= FULL * hall.frames_per_second and in_time >= IN_TIME,
    )


def _play(running: Running, players: int, seconds: float) -> tuple[list[dict[str, Any]], float]:
    """What the players saw, and this process's CPU seconds meanwhile."""
    plan = {
        "url": running.address.replace("http", "ws", 1) + "play",
        "token": running.token,
        "players": players,
        "seconds": seconds,
    }
    command = [sys.executable, "-m", "worldmodel.serve.bench_players"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(plan) + "\n")
        process.stdin.flush()
        began = ended = 0.0
        found: list[dict[str, Any]] | None = None
        for line in process.stdout:
            match line:
                case "begin\n":
                    began = time.process_time()
                case "end\n":
                    ended = time.process_time()
                case _:
                    found = json.loads(line)
    if found is None:
        raise UserError("the players of the benchmark ended early; what they said is above")
    return found, ended - began
