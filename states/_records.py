"""Dataclasses that cost next to nothing to import.

The standard library compiles up to six methods for each dataclass when its module is imported,
which takes longer than all else that the module does. The classes here share these methods, and
are dataclasses all the same: to type checkers, to `fields`, `replace` and `asdict`, to `match`, and
to the classes that are derived from them.

To make one takes half a microsecond longer. Those that are made often write their `__init__`, which
takes the fields in their order and `put`s each of them.
"""

from collections.abc import Mapping
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self, TypeVar, dataclass_transform

if TYPE_CHECKING:
    from inspect import Signature

RecordT = TypeVar("RecordT")

put = object.__setattr__
"""Sets a field of a record that is being made: `put(self, "at", at)`."""


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[RecordT]) -> type[RecordT]:
    """Make the class a frozen dataclass with slots.

    Those that are derived from it are made by the standard library's `dataclass`.
    """
    return _made(cls, _FROZEN, frozen=True)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def keyword_record(cls: type[RecordT]) -> type[RecordT]:
    """The same with fields that are given by keyword only."""
    return _made(cls, _BY_KEYWORD, frozen=True, kw_only=True)


@dataclass_transform(field_specifiers=(field,))
def mutable_record(cls: type[RecordT]) -> type[RecordT]:
    """Make the class a dataclass with slots, which has no hash."""
    return _made(cls, _MUTABLE, frozen=False)


def _made(
    cls: type[RecordT], methods: Mapping[str, object], *, frozen: bool, kw_only: bool = False
) -> type[RecordT]:
    written = cls.__dict__.keys()
    for name, method in methods.items():
        if name not in written:
            setattr(cls, name, method)
    as_dataclass = dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)
    made: Any = as_dataclass(cls)
    made.__dataclass_params__.frozen = frozen  # asked for classes that are derived from it
    names = tuple(made.__dataclass_fields__)
    made._names = names  # noqa: SLF001  for the methods below
    made._checks_itself = "__post_init__" in cls.__dict__  # noqa: SLF001  as above
    made._values_of = attrgetter(*names)  # noqa: SLF001  as above
    return made  # type: ignore[no-any-return]  # the class, with its slots


class _LateSignature:
    """What `inspect.signature` says of a class, made when it is asked for."""

    def __get__(self, _: object, cls: "type[_SharedMethods]") -> "Signature":
        if cls.__init__ not in (_SharedMethods.__init__, _init_by_keyword):
            raise AttributeError("__signature__")  # it is that of `__init__`
        from inspect import Parameter, Signature

        def parameter(spec: Field[Any]) -> Parameter:
            default = _MADE_ANEW if callable(spec.default_factory) else spec.default
            return Parameter(
                spec.name,
                Parameter.KEYWORD_ONLY if spec.kw_only else Parameter.POSITIONAL_OR_KEYWORD,
                default=Parameter.empty if default is MISSING else default,
                annotation=spec.type,
            )

        known = cls.__dataclass_fields__.values()
        return Signature([parameter(spec) for spec in known], return_annotation=None)


class _MadeAnew:
    """Stands for a default that each record gets one of; shown as a dataclass shows it."""

    def __repr__(self) -> str:
        return "<factory>"


_MADE_ANEW = _MadeAnew()


class _SharedMethods:
    """The methods of records."""

    __signature__ = _LateSignature()
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    _names: ClassVar[tuple[str, ...]]
    _checks_itself: ClassVar[bool]
    _values_of: "ClassVar[attrgetter[Any]]"

    def __init__(self, *given: object, **named: object) -> None:
        names = self._names
        if named or len(given) != len(names):
            given = _completed(self.__class__, given, named)
        for name, value in zip(names, given, strict=True):
            put(self, name, value)
        if self._checks_itself:
            self.__post_init__()

    def __post_init__(self) -> None:
        """What a record does once its fields are set; it is called where a class has it."""

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return bool(self._values_of(self) == self._values_of(other))

    def __hash__(self) -> int:
        return hash(self._values_of(self))

    def __repr__(self) -> str:
        shown = (spec.name for spec in self.__dataclass_fields__.values() if spec.repr)
        words = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
        return f"{self.__class__.__qualname__}({words})"

    def __setattr__(self, name: str, _: object) -> NoReturn:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __getstate__(self) -> list[object]:
        return [getattr(self, name) for name in self.__dataclass_fields__]

    def __setstate__(self, state: list[object]) -> None:
        for name, value in zip(self.__dataclass_fields__, state, strict=True):
            put(self, name, value)

    def __replace__(self, **changes: object) -> Self:
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return self.__class__(**{**values, **changes})


def _init_by_keyword(self: _SharedMethods, **named: object) -> None:
    _SharedMethods.__init__(self, **named)


def _completed(
    cls: type[_SharedMethods], given: tuple[object, ...], named: dict[str, object]
) -> tuple[object, ...]:
    """All fields in their order, with those that are named, and else the defaults.

    Raises:
        TypeError: When one is missing or unknown, or given twice.
    """
    values = list(given)
    for name in cls._names[len(given) :]:
        if name in named:
            values.append(named.pop(name))
            continue
        spec = cls.__dataclass_fields__[name]
        made = spec.default_factory
        default = made() if callable(made) else spec.default
        if default is MISSING:
            raise TypeError(f"{cls.__name__}() is missing {name!r}")
        values.append(default)
    if len(values) > len(cls._names):
        raise TypeError(f"{cls.__name__}() takes {len(cls._names)} fields, not {len(values)}")
    if named:
        name = next(iter(named))
        why = "was given twice" if name in cls._names else "is no field"
        raise TypeError(f"{cls.__name__}(): {name!r} {why}")
    return tuple(values)


_MUTABLE: dict[str, object] = {
    "__init__": _SharedMethods.__init__,
    "__signature__": vars(_SharedMethods)["__signature__"],
    "__eq__": _SharedMethods.__eq__,
    "__hash__": None,
    "__repr__": _SharedMethods.__repr__,
    "__getstate__": _SharedMethods.__getstate__,
    "__setstate__": _SharedMethods.__setstate__,
    "__replace__": _SharedMethods.__replace__,
}
_FROZEN: dict[str, object] = {
    **_MUTABLE,
    "__hash__": _SharedMethods.__hash__,
    "__setattr__": _SharedMethods.__setattr__,
    "__delattr__": _SharedMethods.__delattr__,
}
_BY_KEYWORD = {**_FROZEN, "__init__": _init_by_keyword}
