"""The table of a fleet: its order, what a filter shows, the totals and slow steps."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.fleet import FleetState, Instance, PresenceVerdict
from orchestrator.fleet._fleet_rows import fleet_rows, fleet_totals
from states import Failure, FailureKind, Stage
from tests.fleet.scripted_instance import entry_of

ALIVE, STUCK, LEFT, SILENT, UNKNOWN = PresenceVerdict


def instance(
    name: str,
    stage: Stage = Stage.READY,
    presence: PresenceVerdict = ALIVE,
    *,
    version: str = "1",
    at: float = 100.0,
    presence_since: float = 100.0,
    **more: object,
) -> Instance:
    entry = entry_of(f"{name}.0011223344556677", 3, version)
    entry = replace(entry, current=stage, at=at)
    state = FleetState(entry, "chat", 0.0, 6.0, 2.0)
    state = replace(state, **more)  # type: ignore[arg-type]  # a test names the fields
    return Instance(state, presence, presence_since)


def names(instances: list[Instance], version: str | None = None, text: str = "") -> list[str]:
    return [row.instance.name for row in fleet_rows(instances, version=version, text=text)]


def test_the_oldest_trouble_comes_first_and_what_left_comes_last() -> None:
    fleet = [
        instance("gone", presence=LEFT),
        instance("well-b"),
        instance("well-a"),
        instance("late", Stage.GRACE, at=300.0),
        instance("degraded", Stage.DEGRADED, at=200.0),
        instance("silent", presence=SILENT, presence_since=250.0),
        instance("drains", draining=True, at=400.0),
    ]
    assert names(fleet) == ["degraded", "silent", "late", "drains", "well-a", "well-b", "gone"]


def test_only_one_version_is_shown_where_one_is_named() -> None:
    assert names([instance("a", version="1"), instance("b", version="2")], version="2") == ["b"]


def test_a_filter_looks_at_every_column_in_whatever_case() -> None:
    failure = Failure(FailureKind.TRANSIENT, "X", "nothing Listens there")
    fleet = [
        instance("one", waits_for=("condition DATABASE",)),
        instance("two", failure=failure, failures_in_row=1),
        instance("three", presence=STUCK),
        instance("four", Stage.GRACE, version="1.4.2-rc1"),
    ]
    found = {
        text: names(fleet, text=text) for text in ("database", "listens", "STUCK", "rc1", "ONE")
    }
    assert found == {
        "database": ["one"],
        "listens": ["two"],
        "STUCK": ["three"],
        "rc1": ["four"],
        "ONE": ["one"],
    }


def test_a_failure_of_before_is_not_shown() -> None:
    failure = Failure(FailureKind.TRANSIENT, "X", "it was late")
    (row,) = fleet_rows([instance("a", failure=failure, failures_in_row=0)])
    assert row.failure == ""


def test_a_step_that_took_far_longer_than_elsewhere_is_named() -> None:
    fleet = [instance(f"i{number}", steps={"database": 0.4, "redis": 0.01}) for number in range(4)]
    fleet.append(instance("slow", steps={"database": 1.8, "redis": 0.05}))
    slow = {row.instance.name: row.slow_step for row in fleet_rows(fleet)}
    assert slow.pop("slow") == "database 1.8 s, the fleet's median 0.4 s"
    assert set(slow.values()) == {""}


def test_two_instances_are_not_enough_to_call_one_of_them_slow() -> None:
    fleet = [instance("a", steps={"database": 0.1}), instance("b", steps={"database": 9.0})]
    assert [row.slow_step for row in fleet_rows(fleet)] == ["", ""]


def test_totals_leave_out_what_left() -> None:
    fleet = [
        instance("a", version="1"),
        instance("b", version="2"),
        instance("c", Stage.GRACE, SILENT, version="2"),
        instance("d", presence=LEFT, version="3"),
    ]
    totals = fleet_totals(fleet)
    assert totals.count == 3
    assert totals.by_stage == {Stage.READY: 2, Stage.GRACE: 1}
    assert totals.by_version == {
        "1": {Stage.READY: 1},
        "2": {Stage.READY: 1, Stage.GRACE: 1},
    }
    assert totals.by_presence == {ALIVE: 2, SILENT: 1}


fleets = st.lists(
    st.builds(
        instance,
        st.text("ab", min_size=1, max_size=3),
        st.sampled_from(Stage),
        st.sampled_from(PresenceVerdict),
        at=st.floats(0, 1e9),
    ),
    max_size=20,
)


@given(fleets)
def test_every_instance_has_one_row_and_no_trouble_stands_below_what_is_well(
    fleet: list[Instance],
) -> None:
    rows = fleet_rows(fleet)
    assert len(rows) == len(fleet)
    troubles = [row.trouble_since for row in rows if row.trouble_since is not None]
    assert [row.trouble_since for row in rows[: len(troubles)]] == sorted(troubles)
