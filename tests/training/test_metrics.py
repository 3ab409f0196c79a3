"""What a run writes down for people."""

import pytest

from worldmodel.training.metrics import readable


@pytest.mark.parametrize(
    ("loss", "shown"),
    [(0.00031234, "0.000312"), (1.83253, "1.83"), (412.25, "412"), (12345.6, "12346")],
)
def test_a_loss_has_three_digits_that_count_however_small_it_is(loss: float, shown: str) -> None:
    assert readable(loss) == shown
