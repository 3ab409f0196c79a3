"""The check of a data set as a table for people."""

from worldmodel.datacheck.dataset import DataSet
from worldmodel.datacheck.state_facts import NumberFacts, StateFacts
from worldmodel.datacheck.timing import Timing
from worldmodel.system.printable import counted

MOST_LINES = 10  # errors that the table lists


def describe(data: DataSet) -> list[str]:
    """The report on a folder of episodes, line by line."""
    facts = data.facts()
    errors = data.errors[:MOST_LINES]
    if hidden := len(data.errors) - len(errors):
        errors.append(f"and {hidden} more")
    complaints = [f"  ERROR        {text}" for text in errors]
    complaints += [f"  warning      {text}" for text in data.warnings]
    if not data.scans:
        return [f"{data.folder}", f"  files        {facts['files']}, none readable", *complaints]
    low, middle, high = facts["lengths"]
    mouse = facts["mouse_degrees"]
    held = ", ".join(f"{name} {100 * share:.1f} %" for name, share in facts["held"].items())
    return [
        f"{data.folder}",
        f"  files        {facts['files']}, {len(data.unreadable)} unreadable",
        f"  frames       {facts['frames']} ({facts['minutes']:g} min); episodes of {low} to {high} "
        f"frames, median {middle}",
        f"  size, rate   {_list(facts['sizes'])}; {_list(facts['rates'])} frames/s",
        f"  held         {held or 'no buttons'}; idle {100 * facts['idle']:.1f} %",
        f"  mouse        moves in {100 * mouse['moving']:.1f} % of the frames; of these p50 "
        f"{mouse['p50']:g}, p99 {mouse['p99']:g} degrees",
        f"  pictures     {100 * facts['repeated']:.1f} % repeat the one before, "
        f"{100 * facts['flat']:.1f} % of one colour",
        f"  actions lag  {_lag(data.timing)}",
        *(_state(data.state, len(data.scans)) if data.state else []),
        *complaints,
    ]


def _lag(timing: Timing) -> str:
    """How far off, and what each lag explains."""
    lag = "none" if timing.lag == 0 else f"{timing.lag:+d} frames" if timing.lag else ""
    lag = lag or f"cannot be told ({timing.why})"
    explained = ", ".join(f"{lag:+d}: {100 * v:.1f} %" for lag, v in timing.explained.items())
    return lag + (f"; explained {explained}" if explained else "")


def _state(state: StateFacts, files: int) -> list[str]:
    """A line for every number of the state, and how it stands beside the frames."""
    width = max(map(len, state.numbers))
    return [
        f"  state        {counted(len(state.numbers), 'number')} in {state.files} of "
        f"{counted(files, 'file')}",
        *(f"    {name:<{width}}  {_number(n)}" for name, n in state.numbers.items()),
        f"  state lag    {_lag(state.timing)}",
    ]


def _number(number: NumberFacts) -> str:
    unit = f" {number.unit}" if number.unit else ""
    unknown = f"; not known in {100 * number.unknown:.1f} %" if number.unknown else ""
    if number.unknown == 1:
        return f"{number.kind}: never known"
    if number.is_constant:
        return f"{number.kind}: always {number.low:.6g}{unit}{unknown}"
    span = f"{number.low:.6g} to {number.high:.6g}{unit}"
    return f"{number.kind}: {span}, largest step {number.step:.4g}{unknown}"


def _list(table: dict[str, int]) -> str:
    return ", ".join(table) or "none"
