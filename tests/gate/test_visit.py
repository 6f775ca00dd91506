"""What a visit makes of what the tasks of a handler do."""

from types import SimpleNamespace

import anyio
import pytest

from orchestrator._gate.visit import Visit


class Turnstile:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def answering(self, _: object) -> None:
        self.told.append("answering")

    def rest(self, _: object) -> None:
        self.told.append("rest")


def test_a_task_is_not_taken_for_one_that_has_ended_and_had_its_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tasks for one `receive` each often have the id, an address, of the one before."""
    now = SimpleNamespace(id=1, coro=object())
    monkeypatch.setattr(anyio, "get_current_task", lambda: now)

    def in_another_task(task_id: int) -> None:
        now.id, now.coro = task_id, object()

    turnstile, ticket = Turnstile(), SimpleNamespace(unanswered=0, spoken=False)
    visit = Visit(turnstile, ticket)  # type: ignore[arg-type]  # no more of them is needed
    handler = now.coro
    for _ in range(2):
        in_another_task(2)
        visit.waits()
        visit.handed()
        now.id, now.coro = 1, handler
        visit.sent()  # the answer, by another task than that which took the message
    in_another_task(2)
    visit.waits()
    assert turnstile.told == ["answering"] * 2
    in_another_task(1)
    visit.waits()
    assert "rest" not in turnstile.told, "the handler's own task has not asked"
    now.id, now.coro = 1, handler
    visit.waits()
    assert turnstile.told[-1] == "rest"
