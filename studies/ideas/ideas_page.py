"""The table of what each idea gave."""

from collections.abc import Mapping
from statistics import mean

from studies.ideas.try_ideas import BASE, Ideas, Outcome
from studies.markdown import markdown_table, write_between


def write_page(plan: Ideas, outcomes: Mapping[str, Outcome]) -> None:
    """Write the table between its marks in the page."""
    begin = f"<!-- {plan.name}: begin. `worldmodel ideas` writes this part; do not edit it -->"
    end = f"<!-- {plan.name}: end -->"
    write_between(plan.page, plan.title, begin, end, "\n".join(ideas_table(plan, outcomes)))


def ideas_table(plan: Ideas, outcomes: Mapping[str, Outcome]) -> list[str]:
    """The base with the spread of its seeds, each idea as a difference to the base's mean.

    Bold is what lies further from the mean than any seed does, by more than the seeds' own span.
    """
    base = [found for name, found in outcomes.items() if name.startswith(BASE)]
    if not base:
        return ["Nothing is measured yet."]
    head = ["", "steps", "minutes", *plan.figures.values()]
    values = {name: [found.figures[name] for found in base] for name in plan.figures}
    spans = [f"{mean(v):.2f} ({min(v):.2f} to {max(v):.2f})" for v in values.values()]
    minutes = mean(found.minutes for found in base)
    rows = [[f"the base, {len(base)} seeds", f"{base[0].steps}", f"{minutes:.1f}", *spans]]
    for name, idea in plan.ideas.items():
        if name in outcomes:
            found = outcomes[name]
            cells = [_gain(found.figures[key], values[key]) for key in plan.figures]
            rows.append([idea.title, f"{found.steps}", f"{found.minutes:.1f}", *cells])
    return markdown_table(head, rows)


def _gain(value: float, seeds: list[float]) -> str:
    gain, span = value - mean(seeds), max(seeds) - min(seeds)
    shown = f"{round(gain, 2) + 0.0:+.2f}"  # no -0.00
    outside = not min(seeds) - span <= value <= max(seeds) + span
    return f"**{shown}**" if outside and shown != "+0.00" else shown
