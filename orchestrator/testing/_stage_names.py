"""The stages by the names that tests write."""

from collections.abc import Iterable

from states import Stage


def stage_called(name: Stage | str, among: Iterable[Stage] = Stage, what: str = "it is") -> Stage:
    """The stage of that name.

    Args:
        name: What the test has written.
        among: The stages that can be meant.
        what: What a stage is one of, for the text of the error.

    Raises:
        ValueError: When there is no such stage; the text names those there are.
    """
    if name in list(Stage):
        return Stage(name)
    raise ValueError(f"there is no stage {str(name)!r}: {what} one of {', '.join(among)}")
