"""Seeds follow from keys, and no two keys that are used give the same one."""

from itertools import product

import numpy as np

from worldmodel.random_streams import arrays, choices, seed_of


def test_a_key_gives_the_same_numbers_and_any_other_key_gives_others() -> None:
    assert choices(0, "teacher", 1).random() == choices(0, "teacher", 1).random()
    assert np.array_equal(arrays(7, "clips").random(4), arrays(7, "clips").random(4))
    assert not np.isin(arrays(7, "clips").random(99), arrays(8, "clips").random(99)).any()


def test_the_numbers_of_a_key_never_change() -> None:
    """Else trajectories written before would no longer follow from their seeds: see `SCHEME`."""
    assert seed_of(0, "teacher", 1, 0) == 6135185049707443663


def test_keys_that_look_alike_have_nothing_in_common() -> None:
    alike = [(1, 2), (12,), ("1", "2"), ("12",), (1, "2"), ("1", 2), ("1, 2",), (2, 1), (1, 2, "")]
    assert len({seed_of(*key) for key in alike}) == len(alike)


def test_runs_stages_steps_and_batches_share_no_seed() -> None:
    """Nor do the 32 bits of them that torch uses on a CPU. A million steps once was a new run."""
    steps = (*range(60), 1_000_003, 1_000_004, 2_000_006)
    keys = list(product(range(3), ("teacher", "dmd"), steps, range(4)))
    for bits in (32, 63):
        assert len({seed_of(*key) % 2**bits for key in keys}) == len(keys)
    assert all(0 <= seed_of(*key) < 2**63 for key in keys)


def test_seeds_in_a_row_are_spread_over_all_there_are() -> None:
    seeds = np.array([seed_of(0, "teacher", step, 0) for step in range(2000)], np.float64) / 2**63
    for part in np.split(np.sort(seeds), 4):
        assert 0.2 < np.ptp(part) < 0.3
    assert abs(np.corrcoef(seeds[1:], seeds[:-1])[0, 1]) < 0.1
