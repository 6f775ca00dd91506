"""Dataclasses that cost next to nothing to import.

The standard library compiles up to six methods for each dataclass when its module is imported,
which takes longer than all else that the module does. The classes here write their `__init__`, and
share the other methods. They are dataclasses all the same: to type checkers, to `fields`, `replace`
and `asdict`, to `match`, and to the classes that are derived from them.
"""

from dataclasses import Field, FrozenInstanceError, dataclass, field
from operator import attrgetter
from typing import Any, ClassVar, NoReturn, Self, TypeVar, dataclass_transform

RecordT = TypeVar("RecordT")

put = object.__setattr__
"""Sets a field of a record that is being made: `put(self, "at", at)`."""


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[RecordT]) -> type[RecordT]:
    """Make a frozen dataclass with slots of a class with an `__init__`.

    `__init__` takes the fields in their order, or all by keyword only, and `put`s each of them.
    Their types and defaults stand there once more; a test compares them.
    """
    return _made(cls, _FROZEN, frozen=True)


@dataclass_transform(field_specifiers=(field,))
def mutable_record(cls: type[RecordT]) -> type[RecordT]:
    """The same with fields that may be set later; it has no hash."""
    return _made(cls, _MUTABLE, frozen=False)


def _made(cls: type[RecordT], methods: dict[str, Any], *, frozen: bool) -> type[RecordT]:
    init: Any = cls.__dict__["__init__"]
    for name, method in methods.items():
        setattr(cls, name, method)
    by_keyword = init.__code__.co_argcount == 1
    as_dataclass = dataclass(init=False, repr=False, eq=False, slots=True, kw_only=by_keyword)
    made: Any = as_dataclass(cls)
    made.__dataclass_params__.frozen = frozen  # asked for classes that are derived from it
    made._values_of = attrgetter(*made.__dataclass_fields__)  # noqa: SLF001  for the methods below
    return made  # type: ignore[no-any-return]  # the class, with its slots


class _SharedMethods:
    """The methods that all records have."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    _values_of: "ClassVar[attrgetter[Any]]"

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


_MUTABLE = {
    "__eq__": _SharedMethods.__eq__,
    "__hash__": None,
    "__repr__": _SharedMethods.__repr__,
    "__getstate__": _SharedMethods.__getstate__,
    "__setstate__": _SharedMethods.__setstate__,
    "__replace__": _SharedMethods.__replace__,
}
_FROZEN = {
    **_MUTABLE,
    "__hash__": _SharedMethods.__hash__,
    "__setattr__": _SharedMethods.__setattr__,
    "__delattr__": _SharedMethods.__delattr__,
}
