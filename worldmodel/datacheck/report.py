"""The check of a data set as a table for people."""

from worldmodel.datacheck.dataset import DataSet

MOST_LINES = 10  # errors that the table lists


def describe(data: DataSet) -> list[str]:
    """Lines for people."""
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
    explained = ", ".join(f"{lag:+d}: {100 * v:.1f} %" for lag, v in data.timing.explained.items())
    lag = data.timing.lag
    told = f"cannot be told ({data.timing.why})" if lag is None else f"{lag:+d} frames"
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
        f"  actions lag  {told if lag else told.replace('+0 frames', 'none')}"
        + (f"; explained {explained}" if explained else ""),
        *complaints,
    ]


def _list(table: dict[str, int]) -> str:
    return ", ".join(table) or "none"
