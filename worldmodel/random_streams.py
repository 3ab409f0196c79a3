"""Independent streams of chance: the one place where training and recording make seeds.

Whoever draws says what for. A stream's key is a list such as (seed of the run, stage, step, batch),
and, within a batch, the name of a purpose; its seed is taken from the SHA-256 of that key as JSON.
So two streams whose keys differ in anything, however little, have nothing to do with each other: a
clip and the noise on it, one step and the next, runs with neighbouring seeds.

A stream is a function of its key alone. So nothing of it is stored: a run that was killed and
resumed draws what an unbroken one would. The other side of it: who asks for a key again is given
the same numbers again. What is to be independent needs a name of its own.

`worldmodel.training.torch_streams` gives torch's generators these seeds.
"""

import hashlib
import json
from random import Random

import numpy as np

SCHEME = 1  # changes when keys come to give other numbers
Key = int | str  # a part of one


def seed_of(*key: Key) -> int:
    """The seed of a key, from 0 to 2^63 - 1."""
    digest = hashlib.sha256(json.dumps(key).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def choices(*key: Key) -> Random:
    """A stream of single numbers."""
    return Random(seed_of(*key))


def arrays(*key: Key) -> np.random.Generator:
    """A stream of numpy's arrays."""
    return np.random.default_rng(seed_of(*key))
