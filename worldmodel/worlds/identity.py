"""Whether a state belongs to a world: the same weights and the same sampler, whatever computes."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from worldmodel.world import StateError
from worldmodel.worlds.world_folder import AUTOENCODER, TRANSFORMER

Identity = Mapping[str, Any]


def check_same_world(
    saved: Identity, here: Identity, names: Sequence[str] = (TRANSFORMER, AUTOENCODER)
) -> None:
    """A `StateError` that says what differs, and what to do."""
    ours = here["sha256"]
    theirs = saved.get("sha256")
    theirs = theirs if isinstance(theirs, Mapping) else {}
    for name in names:
        if theirs.get(name) != ours[name]:
            raise StateError(
                f"it was made in {str(saved.get('world'))[:80]!r} with {name} "
                f"{str(theirs.get(name))[:12]}…, here is {here['world']!r} with "
                f"{ours[name][:12]}…: load it in the version of the world that it was made in"
            )
    if _plain(saved.get("sampler")) != (wanted := _plain(here["sampler"])):
        raise StateError(
            f"it was made with the sampler {str(saved.get('sampler'))[:200]}, here is {wanted}: "
            "load it with the --steps that it was made with"
        )


def _plain(value: Any) -> Any:
    """As JSON writes and reads it: lists for tuples."""
    return json.loads(json.dumps(value))
