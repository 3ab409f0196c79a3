"""How to run a world on this machine: steps, device, dtype, threads."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from worldmodel.config import ConfigError
from worldmodel.system.limits import MOST_STEPS, MOST_THREADS
from worldmodel.system.paths import Pathlike

Device = Literal["auto", "cpu", "cuda", "mps"]
DType = Literal["auto", "float32", "bfloat16"]
EngineName = Literal["auto", "torch", "torch-compiled", "openvino"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSettings:
    """What the command line may overrule; `auto` and 0 leave the choice to the world."""

    steps: int = 0  # denoising steps; 0: as the world says
    device: Device = "auto"
    dtype: DType = "auto"
    engine: EngineName = "auto"  # what computes; on a CPU the fastest here, measured once
    compile: bool = False  # torch on fixed shapes, fused by its compiler; takes minutes to begin
    threads: int = 0  # 0: one per core, or fewer if that is faster
    start: Pathlike | None = None  # a clip, a video or an image of the user's own as one more start
    prompt: str | None = None  # what a world with text is given first

    def __post_init__(self) -> None:
        for name, value, kind in (
            ("device", self.device, Device),
            ("dtype", self.dtype, DType),
            ("engine", self.engine, EngineName),
        ):
            if value not in get_args(kind):
                choices = ", ".join(get_args(kind))
                raise ConfigError(f"{name} = {value!r}: choose from {choices}")
        if not 0 <= self.steps <= MOST_STEPS or not 0 <= self.threads <= MOST_THREADS:
            raise ConfigError(
                f"steps ({self.steps}) must be from 0 to {MOST_STEPS}, "
                f"threads ({self.threads}) from 0 to {MOST_THREADS}"
            )


def available_cores() -> int:
    """Cores that this process may use: those it is bound to, and what its container grants."""
    try:
        cores = len(os.sched_getaffinity(0))
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return cores if quota == "max" else max(1, min(cores, round(int(quota) / int(period))))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1
    except (OSError, ValueError):  # Linux without cgroup limits
        return len(os.sched_getaffinity(0))


def usual_threads() -> int:
    """Threads of torch where nobody says how many: one a core, no more than OMP_NUM_THREADS."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    cores = available_cores()
    return min(cores, int(wanted)) if wanted.isdecimal() and int(wanted) else cores
