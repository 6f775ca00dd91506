"""Records behave as dataclasses do, and each one's `__init__` takes its fields."""

import copy
import dataclasses
import importlib
import inspect
import pickle
import pkgutil
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import TypeAdapter

import orchestrator
import states
from orchestrator.asgi import AdmissionCounts
from states import ConditionChanged, Failure, FailureKind, ProbeFailed, TimerFired
from states._records import keyword_record, mutable_record, put, record

FAILURE = Failure(FailureKind.TRANSIENT, "ConnectionRefusedError", "it refuses")
FAILED = ProbeFailed(1.0, 0.25, FAILURE)


@keyword_record
class Login:
    """One with all that a field can say of itself, by keyword only."""

    user: str = "me"
    password: str = field(default="", repr=False)
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardLogin:
    """The same by the standard library."""

    user: str = "me"
    password: str = field(default="", repr=False)
    options: Mapping[str, str] = field(default_factory=dict)


@record
class Pair:
    """One without an `__init__`."""

    first: str
    second: list[str] = field(default_factory=list)


@record
class Written:
    """One that writes what it would share."""

    first: str
    second: list[str] = field(default_factory=list)

    def __init__(self, first: str, second: list[str] | None = None) -> None:
        put(self, "first", first)
        put(self, "second", [first] if second is None else second)

    def __hash__(self) -> int:
        return 1

    def __repr__(self) -> str:
        return "written"


@record
class Checked:
    """One that checks itself."""

    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError("below 0")


@mutable_record
class Counts:
    """A record whose fields may be set."""

    good: int = 0
    bad: int = 0


def every_record() -> list[type]:
    """Those of all modules."""
    seen: set[type] = set()
    for package in (states, orchestrator):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "__main__" not in module.name and "testing.plugin" not in module.name:
                names = vars(importlib.import_module(module.name))
                seen.update(
                    one for one in names.values() if "_values_of" in getattr(one, "__dict__", ())
                )
    return sorted(seen, key=lambda one: (one.__module__, one.__qualname__))


@pytest.mark.parametrize("made", every_record(), ids=lambda made: made.__qualname__)
def test_each_record_takes_its_fields_in_order_and_as_they_are_typed(made: type) -> None:
    fields = dataclasses.fields(made)
    assert [one.name for one in fields] == list(vars(made)["__dataclass_fields__"])
    given = list(inspect.signature(made).parameters.values())
    assert [one.name for one in given] == [one.name for one in fields]
    init = vars(made)["__init__"]
    written = init not in (vars(Pair)["__init__"], vars(Login)["__init__"])
    typed = typing.get_type_hints(made)
    taken = typing.get_type_hints(init) if written else typed
    for parameter, spec in zip(given, fields, strict=True):
        default, factory = spec.default, spec.default_factory
        if written and callable(factory):
            assert parameter.default is None
            assert taken[spec.name] == typed[spec.name] | None
            continue
        assert taken[spec.name] == typed[spec.name]
        if callable(factory):
            assert repr(parameter.default) == "<factory>"
        elif default is dataclasses.MISSING:
            assert parameter.default is inspect.Parameter.empty
        else:
            assert parameter.default == default
        assert spec.kw_only is (parameter.kind is inspect.Parameter.KEYWORD_ONLY)


def test_a_record_takes_its_fields_by_position_or_name() -> None:
    whole = Pair("a", ["b"])
    assert whole == Pair("a", second=["b"]) == Pair(second=["b"], first="a")
    assert Pair("a") == Pair("a", []) == Pair(first="a")
    assert Pair("a").second is not Pair("a").second


@pytest.mark.parametrize(
    ("given", "named", "words"),
    [
        ((), {}, r"Pair\(\) is missing 'first'"),
        ((), {"second": []}, r"Pair\(\) is missing 'first'"),
        (("a",), {"first": "b"}, r"Pair\(\): 'first' was given twice"),
        (("a",), {"third": "b"}, r"Pair\(\): 'third' is no field"),
        (("a", [], "b"), {}, r"Pair\(\) takes 2 fields, not 3"),
        (("a", [], "b"), {"second": []}, r"Pair\(\) takes 2 fields, not 3"),
    ],
)
def test_a_record_says_which_field_is_wrong(
    given: tuple[object, ...], named: dict[str, object], words: str
) -> None:
    made: Any = Pair
    with pytest.raises(TypeError, match=words):
        made(*given, **named)
    with pytest.raises(TypeError):
        inspect.signature(made).bind(*given, **named)


def test_a_record_with_an_init_of_its_own_sets_its_fields_by_it() -> None:
    assert Written("a").second == ["a"]
    assert Written("a") == Written("a", ["a"])


def test_a_record_by_keyword_takes_nothing_else() -> None:
    made: Any = Login
    for given in ("me",), ("me", "", ""):
        for kind in (made, StandardLogin):
            with pytest.raises(TypeError, match="positional argument"):
                kind(*given)
    assert Login(options={"a": "b"}, user="you").options == {"a": "b"}
    with pytest.raises(TypeError, match="'wrong' is no field"):
        made(wrong=1)


def test_a_record_keeps_the_methods_that_it_writes() -> None:
    assert repr(Written("a")) == "written"
    assert hash(Written("a")) == 1


def test_a_record_may_check_itself() -> None:
    with pytest.raises(ValueError, match="below 0"):
        Checked(-1)
    with pytest.raises(ValueError, match="below 0"):
        dataclasses.replace(Checked(1), number=-1)


def test_a_record_is_equal_to_one_of_the_same_class_with_the_same_fields() -> None:
    assert ProbeFailed(at=1.0, latency_seconds=0.25, failure=copy.deepcopy(FAILURE)) == FAILED
    assert hash(FAILED) == hash(copy.copy(FAILED))
    assert ProbeFailed(1.0, 0.25, FAILURE, 0.5) != FAILED
    others: list[object] = [states.BootFinished(1.0), 1.0, (1.0,)]
    assert all(TimerFired(1.0) != other for other in others)
    assert len({TimerFired(1.0), TimerFired(1.0), TimerFired(2.0)}) == 2


def test_a_record_is_shown_as_a_dataclass_is() -> None:
    assert repr(TimerFired(1.0)) == "TimerFired(at=1.0)"
    mine, standard = Login(user="you"), StandardLogin(user="you")
    assert repr(mine) == repr(standard).replace("StandardLogin", "Login")


def test_a_record_can_be_neither_changed_nor_extended() -> None:
    for name in ("reason", "unknown"):
        with pytest.raises(dataclasses.FrozenInstanceError, match=f"assign to field '{name}'"):
            setattr(FAILURE, name, "other")
        with pytest.raises(dataclasses.FrozenInstanceError, match=f"delete field '{name}'"):
            delattr(FAILURE, name)
    assert not hasattr(FAILURE, "__dict__")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_record_is_pickled_whole(protocol: int) -> None:
    if protocol < 2:
        return  # as for dataclasses with slots
    for one in (FAILED, TimerFired(0.0), Login(options={"a": "b"}), AdmissionCounts(held=3)):
        assert pickle.loads(pickle.dumps(one, protocol)) == one  # noqa: S301  it is our own


def test_the_tools_of_the_standard_library_take_records_for_dataclasses() -> None:
    assert dataclasses.is_dataclass(Failure)
    assert dataclasses.is_dataclass(FAILURE)
    assert dataclasses.replace(FAILED, at=2.0) == ProbeFailed(2.0, 0.25, FAILURE)
    assert dataclasses.astuple(TimerFired(3.0)) == (3.0,)
    assert dataclasses.asdict(FAILED)["failure"] == {
        "kind": "transient",
        "error_type": "ConnectionRefusedError",
        "reason": "it refuses",
        "congestion": False,
    }
    options = {"a": "b"}
    assert dataclasses.asdict(Login(options=options)) == dataclasses.asdict(
        StandardLogin(options=options)
    )
    with pytest.raises(TypeError, match="unknown"):
        dataclasses.replace(FAILED, unknown=2.0)  # type: ignore[call-arg]  # that is the test
    if sys.version_info >= (3, 13):
        assert copy.replace(FAILED, at=2.0) == ProbeFailed(2.0, 0.25, FAILURE)


def test_records_are_matched_by_position_and_by_name() -> None:
    match ConditionChanged(1.0, "cache", satisfied=False, reason="cold"):
        case ConditionChanged(at, "cache", False, reason=why):
            assert (at, why) == (1.0, "cold")
        case _:
            pytest.fail("it does not match")
    assert not Login.__match_args__


def test_libraries_that_build_dataclasses_build_records() -> None:
    given = {"kind": "permanent", "error_type": "ResponseError", "reason": "wrong"}
    made = TypeAdapter(Failure).validate_python(given)
    assert made == Failure(FailureKind.PERMANENT, "ResponseError", "wrong")
    assert TypeAdapter(Failure).dump_python(made) == {**given, "congestion": False}
    assert TypeAdapter(Login).validate_python({}) == Login()


def test_a_class_may_be_derived_from_a_record() -> None:
    class Named(TimerFired):
        """A plain one, as tests write them."""

    class Twice(Pair):
        def __init__(self, both: str) -> None:
            super().__init__(both, [both])

    assert Twice("a").second == ["a"]
    assert list(inspect.signature(Twice).parameters) == ["both"]

    @dataclass(frozen=True)
    class Located(Failure):
        where: str = ""

    assert Named(1.0) != TimerFired(1.0)
    assert Named(1.0) == Named(1.0)
    there = Located(FailureKind.TRANSIENT, "Gone", "why", where="there")
    assert repr(there).endswith("reason='why', congestion=False, where='there')")
    assert (there.congestion, hash(there)) == (False, hash(copy.deepcopy(there)))
    assert list(inspect.signature(Located).parameters)[-1] == "where"
    with pytest.raises(TypeError, match="frozen"):

        @dataclass
        class Loose(Failure):  # type: ignore[misc]  # that is the test
            where: str = ""


def test_a_mutable_record_may_be_set_and_has_no_hash() -> None:
    counts = Counts()
    counts.good += 1
    assert counts == Counts(1) == dataclasses.replace(Counts(bad=0), good=1)
    assert repr(counts) == "Counts(good=1, bad=0)"
    with pytest.raises(TypeError, match="unhashable"):
        hash(counts)
    with pytest.raises(AttributeError):
        counts.ugly = 1  # type: ignore[attr-defined]  # that is the test
