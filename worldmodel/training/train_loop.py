"""The one training loop: every stage gives a loss, everything else is here.

A step is a function of (weights, optimizer state, seed, step number): data, noise and dropout are
drawn from streams (`torch_streams`) whose keys are the last two. So a run that was killed and
resumed on the same kind of device takes the same steps as one that was not, and no random state has
to be stored.

A run's folder holds `state.safetensors` (weights, EMA, optimizer, step; written atomically), the
state before it (`kept_states`), `metrics.jsonl`, TensorBoard events and `samples/`. Several
processes (`processes`) save their parts of the state (`sharded`) and write the one file when they
end.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from worldmodel.config import ConfigError, UserError
from worldmodel.storage.files import FileWriteError
from worldmodel.system.progress import Progress, note
from worldmodel.training.budget import StepTime, clock, steps_that_fit
from worldmodel.training.kept_states import BrokenStateError, load_newest
from worldmodel.training.metrics_log import MetricsLog, readable
from worldmodel.training.processes import Processes, whole, with_whole_average
from worldmodel.training.sharded import load_sharded, save_sharded
from worldmodel.training.stage import (
    NEVER,
    CriticisedStage,
    LoopConfig,
    ReadingStage,
    Stage,
)
from worldmodel.training.torch_streams import seed_default, torch_stream
from worldmodel.training.train_state import CRITIC, STUDENT, TrainState, update_ema

STATE = "state.safetensors"
CONFIG = "config.toml"  # what the run was started with, resolved
SAVE_SECONDS = 30.0  # between two saves of a run that has minutes, at least
SAVE_SHARE = 0.03  # of the time, at most


class UnfinishedError(UserError):
    """A run was asked to stop, or has not come to its end yet."""


class DivergedError(UserError):
    """The loss is not a number; the last good state is on disk."""


def train(
    stage: Stage,
    config: LoopConfig,
    folder: Path,
    processes: Processes | None = None,
    began: float | None = None,
    name: str = "",
) -> TrainState:
    """Train until `config.steps`; resume if `folder` holds a state. SIGTERM saves, then stops.

    Minutes count from `began`, by the clock `time.perf_counter`; none: from now. Stages of one seed
    but of another `name` draw other numbers.
    """
    began = time.perf_counter() if began is None else began
    state = resume(stage, config, folder, processes)
    run = Run(stage, config, folder, state, processes or Processes(state.device), name)
    pace = StepTime(state.device, run.period)
    with (
        MetricsLog(folder, state.step, writes=run.processes.leads) as log,
        Progress(
            total=run.config.steps or None,
            initial=state.step,
            unit="step",
            leave=True,
            smoothing=0.05,
            disable=not run.processes.leads,
        ) as progress,
        stop_on_sigterm() as stopping,
        run.telling_what_is_kept(),
    ):
        while not run.is_over and not run.processes.any(stopping()):
            run.take_step()
            progress.update(1)
            is_open = not run.config.steps
            if is_open and (seconds := pace.after_step()):
                log.write(state.step, run.settle(seconds, began))
                progress.total = run.config.steps
            if is_open:
                continue
            last = run.is_over
            if state.step % config.log_every == 0 or last:
                values = run.figures()
                progress.add(**{k: readable(values[k]) for k in run.losses if k in values})
                log.write(state.step, values)
            if run.is_due:
                run.save()
            if state.step % run.config.sample_every == 0 or last:
                log.write(state.step, run.sample())
        run.save(last=True)
    return state


def resume(
    stage: Stage, config: LoopConfig, folder: Path, processes: Processes | None = None
) -> TrainState:
    """The newest state in `folder`, or a fresh one; a state of another model is an error.

    A `BrokenStateError` where there are states and none is whole. Of several processes all must
    call it.
    """
    state = TrainState(stage, config)
    processes = processes or Processes(state.device)
    problem: BrokenStateError | None = None
    notes: list[str] = []
    try:
        notes.append(load_newest(state, folder / STATE))
    except BrokenStateError as error:
        problem = error
    try:
        notes.append(load_sharded(state, folder, processes))
    except BrokenStateError as error:
        if not state.step:
            raise
        load_newest(state, folder / STATE)  # what was there is overwritten in part
        notes.append(f"{error}; the older {folder / STATE} is: going on from step {state.step}")
    if problem and not state.step:
        raise problem
    for line in filter(None, notes) if processes.leads else ():
        note(line)
    return state


class Run:
    """A stage on its way: takes steps, watches them, saves."""

    losses = ("loss", "critic_loss")

    def __init__(
        self,
        stage: Stage,
        config: LoopConfig,
        folder: Path,
        state: TrainState,
        processes: Processes,
        name: str,
    ) -> None:
        if not config.steps and processes.count > 1:
            raise ConfigError("[loop] minutes is for one process; give it steps")
        self.stage, self.folder, self.state, self.name = stage, folder, state, name
        self.config = config.of_steps(state.steps) if state.steps and config.minutes else config
        self.processes, self._share = processes, processes.share(config.micro_batches)
        self._critic = stage.critic if isinstance(stage, CriticisedStage) else None
        self._saved = state.step or None
        self._saved_at, self._save_seconds = time.perf_counter(), 0.0
        self._began = (time.perf_counter(), state.step, state.seconds)
        self._pauses = 0.0  # seconds in which nothing was trained
        self._latest: dict[str, Tensor] = {}
        # The first step whose gradient was no number: looked at only where the host waits anyway.
        self._bad = torch.full((), NEVER, device=state.device)

    @property
    def is_over(self) -> bool:
        """Whether all steps are done; not before their number is known."""
        return 0 < self.config.steps <= self.state.step

    @property
    def is_due(self) -> bool:
        """Whether the state should be saved now."""
        if self.config.save_every != NEVER:
            return self.state.step % self.config.save_every == 0
        wait = max(SAVE_SECONDS, self._save_seconds / SAVE_SHARE)
        return time.perf_counter() - self._saved_at > wait

    @property
    def period(self) -> int:
        """After how many steps the players' turns repeat."""
        return self._critic.updates + 1 if self._critic else 1

    def settle(self, pace: float, began: float) -> dict[str, float]:
        """Fix how many steps fit, given how long one takes, and write it down with the state.

        The pictures and the state that end a run are made here once, to know what they take.
        """
        before = clock(self.state.device)
        figures = self.sample()
        pictures = time.perf_counter() - before
        self.save()
        spent = time.perf_counter() - began
        ending = pictures + 3 * self._save_seconds
        ending += SAVE_SHARE * max(0.0, 60 * self.config.minutes - spent)
        steps = steps_that_fit(self.config.minutes, spent, pace, ending, self.state.step)
        self.state.steps = steps
        self.config = self.config.of_steps(steps)
        self.save()
        return figures

    def take_step(self) -> None:
        """One update of one player; nothing here waits for a GPU."""
        state, config = self.state, self.config
        player = CRITIC if self._critic and self._critic.has_turn(state.step) else STUDENT
        model = state.players[player]
        figures: dict[str, Tensor] = {}
        for batch in self._share:
            loss, found = self._loss(batch)
            (loss / len(self._share)).backward()  # and the mean over processes
            for key, value in {"loss": loss, **found}.items():
                part = value.detach() / len(self._share)
                figures[key] = figures[key] + part if key in figures else part
        norm = whole(nn.utils.clip_grad_norm_(model.parameters(), config.gradient_norm))
        self._bad = torch.where(norm.isfinite(), self._bad, self._bad.clamp(max=state.step))
        rate = config.rate(state.step)
        for optimizer in state.optimizers[player]:
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if player == STUDENT:
            # A young average would otherwise remember the first weights: ramp (1 + t) / (10 + t).
            turns = state.step // self.period
            update_ema(state.ema, model, min(config.ema_decay, (1 + turns) / (10 + turns)))
        state.step += 1
        now, first = time.perf_counter(), self._began
        state.seconds = first[2] + now - first[0] - self._pauses
        prefix = "critic_" if player == CRITIC else ""
        self._latest |= {prefix + key: value for key, value in figures.items()}
        self._latest[f"{prefix}gradient_norm"] = norm

    def _loss(self, batch: int) -> tuple[Tensor, dict[str, Tensor]]:
        state, config = self.state, self.config
        key = (config.seed, self.name, state.step, batch)
        generator = torch_stream(state.device, *key)
        seed_default(*key, "default")
        with torch.autocast(state.device.type, torch.bfloat16, enabled=config.dtype == "bfloat16"):
            return self.stage.loss(state.step, generator)

    def figures(self) -> dict[str, float]:
        """The last of each since the last call, and the time; a gradient that is none is an error.

        `minutes_left` counts from the speed of this session, pictures and saving included.
        """
        self._check()
        values = {key: float(value) for key, value in self._latest.items()}
        values = self.processes.mean(values)
        self._latest = {}
        state, (clock, step, _) = self.state, self._began
        pace = (time.perf_counter() - clock) / max(1, state.step - step)
        left = pace * (self.config.steps - state.step) / 60
        if isinstance(self.stage, ReadingStage):
            values["loader_frames_per_second"] = round(self.stage.reading.frames_per_second)
        return {**values, "seconds": state.seconds, "minutes_left": round(left, 2)}

    def save(self, *, last: bool = False) -> None:
        """Write the state unless it is broken."""
        self._check()
        several, leads = self.processes.count > 1, self.processes.leads
        began = time.perf_counter()
        with self._pause():
            if several:
                save_sharded(self.state, self.folder, self.processes)
            if last or not several:
                self.state.save(self.folder / STATE, leads=leads)
        self._saved, self._saved_at = self.state.step, time.perf_counter()
        self._save_seconds = self._saved_at - began

    def sample(self) -> dict[str, float]:
        """Pictures, and figures measured on unseen data."""
        with self._pause():
            if self.processes.count == 1:
                return self.stage.sample(self.folder / "samples", self.state.step)
            alone = with_whole_average(self.stage)
            figures: dict[str, float] = {}
            if self.processes.leads:  # with weights of its own: the others need not take part
                figures = alone.sample(self.folder / "samples", self.state.step)
            self.processes.wait()
            return figures

    @contextmanager
    def telling_what_is_kept(self) -> Iterator[None]:
        """Where anything cannot be written, say what is still there."""
        try:
            yield
        except FileWriteError as error:
            raise FileWriteError(f"{error}; {self._last_good()}") from error

    @contextmanager
    def _pause(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._pauses += time.perf_counter() - began

    def _check(self) -> None:
        if (step := int(self._bad)) < NEVER:
            raise DivergedError(
                f"step {step}: the gradient is not finite; {self._last_good()}. Lower the "
                "learning rates and start again"
            )

    def _last_good(self) -> str:
        if self._saved is None:
            return "no state has been saved yet"
        return f"the last good state is that of step {self._saved}, in {self.folder}"


@contextmanager
def stop_on_sigterm() -> Iterator[Callable[[], bool]]:
    """Turn SIGTERM and SIGINT into a flag, so that the loop ends between two steps and saves."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # signal's signature
        nonlocal asked
        asked = True

    before = {s: signal.signal(s, ask) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: not set from Python


def count_flops(stage: Stage, dtype: str = "float32") -> int:
    """Floating-point operations of a batch's forward and backward passes, both players' mean."""
    counter = FlopCounterMode(display=False)
    device = next(stage.student.parameters()).device
    updates, models = 0, [stage.student]
    if isinstance(stage, CriticisedStage):
        updates, models = stage.critic.updates, [stage.student, stage.critic.model]
    total = 0.0
    for step, share in {0: updates, updates: 1}.items():  # a step of the critic, one of the student
        # As in training: a batch that fits a GPU in bfloat16 may not in fp32.
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16")
        with counter, autocast:
            loss, _ = stage.loss(step, torch_stream(device, "flops"))
            loss.backward()
        total += share * counter.get_total_flops() / (updates + 1)
        for model in models:
            model.zero_grad(set_to_none=True)
    return int(total)
