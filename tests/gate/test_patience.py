"""How long handlers that give no sign keep their slots."""

from orchestrator._gate.patience import (
    ANSWERING_TICKS,
    LEAST_TICKS,
    SILENT_TICKS,
    Limit,
    PatienceByPath,
)

SLOTS = 4


def test_patience_halves_each_time_that_all_slots_were_outlived() -> None:
    limit = Limit(SILENT_TICKS)
    for _ in range(SLOTS - 1):
        limit.outlived(SLOTS)
    assert limit.ticks == SILENT_TICKS
    limit.outlived(SLOTS)
    assert limit.ticks == SILENT_TICKS // 2
    for _ in range(10 * SLOTS):
        limit.outlived(SLOTS)
    assert limit.ticks == LEAST_TICKS


def test_patience_is_twice_what_the_longest_took_and_never_more_than_at_first() -> None:
    limit = Limit(SILENT_TICKS)
    limit.learn(7)
    limit.learn(3)
    assert limit.ticks == SILENT_TICKS
    for _ in range(10 * SLOTS):
        limit.outlived(SLOTS)
    assert limit.ticks == 14
    limit.learn(20)  # of a handler that had lost its slot long before
    assert limit.ticks == 40
    limit.learn(10 * SILENT_TICKS)
    limit.outlived(1)
    assert limit.ticks == SILENT_TICKS


def test_each_path_is_judged_by_itself_but_for_its_numbers() -> None:
    patience = PatienceByPath()
    first = patience.of("/chat/17/room-4")
    assert (first.silent.ticks, first.answering.ticks) == (SILENT_TICKS, ANSWERING_TICKS)
    assert patience.of("/chat/9/room-12") is first
    assert patience.of("/chat/all/room-4") is not first


def test_no_number_of_paths_takes_more_than_a_bounded_memory() -> None:
    patience = PatienceByPath()
    names = [f"/{chr(97 + number // 26)}{chr(97 + number % 26)}" for number in range(200)]
    assert len({id(patience.of(name)) for name in names}) == 65
    assert patience.of(names[0]) is not patience.of(names[-1])
