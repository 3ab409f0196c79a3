"""Fuzzing that looks at which lines run (atheris, Linux): python -m tests.fuzz.coverage_guided.

    python -m tests.fuzz.coverage_guided [TARGET] [SECONDS] [FOLDER]

Every reader gets the same time. What breaks one is written into FOLDER; put it into
`tests/fuzz/corpus/TARGET/` and fix the reader: the tests try what is there first.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

NAMES = (
    *("world.toml", "controls", "script", "replay", "recording"),
    *("episode", "weights", "moment", "picture", "settings", "timeline", "trajectory", "import"),
    *("shards", "prompts", "wan-world.toml", "wan-start", "wan-video"),
)


def run_one(name: str, seconds: int, folder: Path) -> None:
    """One target in this process, until time is up or something breaks."""
    import atheris

    with atheris.instrument_imports(include=["worldmodel", "tomllib"]):
        from tests.worlds.make_world import make_world
        from worldmodel.selftest.targets import targets

    world = make_world(Path(tempfile.mkdtemp()) / "tiny")
    (target,) = (one for one in targets(world) if one.name == name)
    seeds = folder / name
    seeds.mkdir(parents=True, exist_ok=True)
    for i, seed in enumerate(target.seeds):
        (seeds / f"seed{i}").write_bytes(seed)
    place = Path(tempfile.mkdtemp())

    def one_input(data: bytes) -> None:
        target.read(place, data)

    flags = [f"-max_total_time={seconds}", "-rss_limit_mb=2048", "-timeout=5", "-close_fd_mask=2"]
    flags += [f"-artifact_prefix={folder}/{name}-", "-print_final_stats=1", "-max_len=20000"]
    atheris.Setup([sys.argv[0], *flags, str(seeds)], one_input)
    atheris.Fuzz()


def main() -> int:
    """All targets, each in a process of its own: a broken reader ends only its own."""
    chosen = sys.argv[1] if len(sys.argv) > 1 else "all"
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    folder = Path(sys.argv[3]) if len(sys.argv) > 3 else Path(tempfile.mkdtemp())
    if chosen != "all":
        run_one(chosen, seconds, folder)
        return 0
    broken = 0
    for name in NAMES:
        command = [sys.executable, "-m", "tests.fuzz.coverage_guided", name, str(seconds)]
        done = subprocess.run([*command, str(folder)], stdout=subprocess.DEVNULL, check=False)
        found = sorted(path.name for path in folder.glob(f"{name}-*"))
        sys.stdout.write(f"{name}: {'broke: ' + ', '.join(found) if found else 'held'}\n")
        broken += bool(found or done.returncode)
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
