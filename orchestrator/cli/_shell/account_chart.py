"""The account of a start as lines for a person: each step with a bar where it lies in time."""

from collections.abc import Mapping

from orchestrator._core.account import Account, AccountStep, StepKind
from orchestrator.cli._shell.foreign_text import listed, number, shown

_BAR_CELLS = 40
_MOST_NAME_CELLS = 32


def account_from(data: object) -> Account | None:
    """The account that a service tells as JSON; `None` where it is none."""
    if not isinstance(data, Mapping):
        return None
    seconds, steps = number(data.get("seconds")), data.get("steps")
    if seconds is None or not isinstance(steps, list):
        return None
    found = [step for one in steps if (step := _step_from(one)) is not None]
    last = shown(data.get("last_to_hold") or "")
    return Account(bool(data.get("ready")), max(0.0, seconds), tuple(found), last)


def _step_from(data: object) -> AccountStep | None:
    if not isinstance(data, Mapping):
        return None
    ended, kind = number(data.get("ended_seconds")), data.get("kind")
    if ended is None or kind not in list(StepKind):
        return None
    return AccountStep(
        shown(data.get("name") or ""),
        StepKind(kind),
        number(data.get("began_seconds")),
        ended,
        bool(data.get("critical")),
        bool(data.get("done")),
        bool(data.get("required")),
        tuple(listed(data.get("after"))),
    )


def account_lines(account: Account) -> list[str]:
    """One line for the whole, and one for each step."""
    title = f"{'ready' if account.ready else 'not ready'} after {account.seconds:.3f} s"
    if not account.steps:
        return [title]
    width = min(_MOST_NAME_CELLS, max(len(step.name) for step in account.steps))
    lines = [title, *(_line(account, step, width) for step in account.critical)]
    if account.beside:
        lines.append("beside these" + (", and delaying nothing:" if account.ready else ":"))
        lines += [_line(account, step, width) for step in account.beside]
    return lines


def _line(account: Account, step: AccountStep, width: int) -> str:
    name = step.name if len(step.name) <= width else step.name[: width - 3] + "..."
    time = f"{step.seconds:9.3f} s" if step.began_seconds is not None else " " * 11
    notes = [", ".join(account.notes_of(step))] if account.notes_of(step) else []
    if step.after:
        notes.append("after " + ", ".join(step.after))
    line = f"  {name:<{width}} {time}  |{_bar(account, step)}|  {'; '.join(notes)}"
    return line.rstrip()


def _bar(account: Account, step: AccountStep) -> str:
    if step.began_seconds is None:
        return " " * _BAR_CELLS

    def cell(at: float) -> int:
        share = at / account.seconds if account.seconds else 0.0
        return min(_BAR_CELLS, max(0, round(share * _BAR_CELLS)))

    first = min(cell(step.began_seconds), _BAR_CELLS - 1)
    length = max(1, cell(step.ended_seconds) - first)
    mark = "=" if step.critical else "-"
    return (" " * first + mark * length).ljust(_BAR_CELLS)
