"""The part `release`: every client that was held gets an answer, and every row all releases."""

from tests.benchmarks import part_release


def test_every_client_is_served_or_closed_and_every_release_is_in_its_rows() -> None:
    # Each release counts its clients: who was not served must have been closed by the application.
    rows = list(part_release.measure(rounds=1, clients=40, pool=10))
    *timed, served = rows
    names = ["3 at a time", "8 at a time", "all at once"]
    for row in timed:
        assert [row.ours.name, *(peer.name for peer in row.peers)] == names
    assert list(served.ours.values) == [40]
    assert served.peers[0].median < 40
