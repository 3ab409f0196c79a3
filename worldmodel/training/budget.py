"""Minutes instead of steps: the first steps are timed, then the number that fits is fixed.

Once fixed it stands in the run's state: a run that is killed and resumed, on whatever machine, ends
at the same step, and the rates fall to 0 exactly there.
"""

import math
import time

import torch

from worldmodel.config import ConfigError

WARM_UP = 3  # steps that compile, allocate and fill caches
LEAST_TIMED = 4
MOST_TIMED = 60
LEAST_SECONDS = 3.0  # of timing, if that takes no more than `MOST_TIMED` steps
LEAST_STEPS = 20  # below which a run teaches nothing
SPARE = 0.97  # of what seems left: other programs come and go


def clock(device: torch.device) -> float:
    """Seconds, once a GPU has done all that it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class StepTime:
    """How long a step takes, told after as few steps as will do."""

    def __init__(self, device: torch.device, period: int) -> None:
        """Steps repeat after `period` of them, where two players take turns."""
        self.device, self.period = device, period
        self._taken = 0
        self._since = 0.0
        self._warm_up = math.ceil(WARM_UP / period) * period

    def after_step(self) -> float | None:
        """Call it after every step; seconds a step, as soon as they are known."""
        self._taken += 1
        timed = self._taken - self._warm_up
        if timed == 0:
            self._since = clock(self.device)
        if timed < LEAST_TIMED or timed % self.period:
            return None
        seconds = clock(self.device) - self._since
        return seconds / timed if seconds >= LEAST_SECONDS or timed >= MOST_TIMED else None


def steps_that_fit(minutes: float, spent: float, pace: float, ending: float, done: int) -> int:
    """How many steps a run of so many minutes has, the `done` ones included.

    `spent` seconds are gone, a step takes `pace` of them, and the pictures and states that are
    still to be written take `ending`; too few steps are an error.
    """
    steps = done + int(SPARE * (60 * minutes - spent - ending) / pace)
    if steps < LEAST_STEPS or steps <= done:
        raise ConfigError(
            f"[loop] minutes = {minutes:.3g} is too little: {spent:.0f} s went by before the first "
            f"steps were timed, a step takes {pace:.2g} s and the end {ending:.0f} s, so "
            f"{max(0, steps)} steps would fit, and fewer than {max(LEAST_STEPS, done + 1)} teach "
            "nothing; give more minutes, a smaller batch or a smaller model"
        )
    return steps
