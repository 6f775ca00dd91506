"""Real clients that come back to a real instance when they are told to."""

import pytest

from tests.herd.crowd import crowd


@pytest.mark.long
def test_clients_that_come_back_in_their_places_are_all_let_in() -> None:
    came = crowd(400, slots=4, most_seconds=300.0)
    assert came.lost == 0
    assert came.visits_each < 4, "hardly anybody is sent away twice"
    # Nobody is let in faster than the handlers can serve, also not by what is measured.
    assert came.measured_per_second <= 1.3 * came.possible_per_second
