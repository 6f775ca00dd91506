"""A fleet as JSON: what the command prints, and what the page gets. Durations are in seconds."""

from collections.abc import Iterable, Mapping, Sequence

from orchestrator.fleet._fleet_rows import FleetRow, FleetTotals, fleet_totals
from orchestrator.fleet._news import (
    Change,
    Contact,
    FleetNews,
    Instance,
    Missed,
    Presence,
    SilentTogether,
)


def fleet_json(service: str, rows: Sequence[FleetRow]) -> Mapping[str, object]:
    """A whole fleet."""
    totals = fleet_totals(row.instance for row in rows)
    return {"service": service, **totals_json(totals), "instances": [row_json(row) for row in rows]}


def totals_json(totals: FleetTotals) -> dict[str, object]:
    """How many there are."""
    return {
        "count": totals.count,
        "by_stage": totals.by_stage,
        "by_version": totals.by_version,
        "by_presence": totals.by_presence,
    }


def row_json(row: FleetRow) -> dict[str, object]:
    """An instance, and how it compares to the others."""
    return instance_json(row.instance) | {
        "trouble": row.trouble_since is not None,
        "trouble_since_unix_seconds": row.trouble_since,
        "slow_step": row.slow_step,
        "untold_words": row.untold,
    }


def instance_json(instance: Instance) -> dict[str, object]:
    """An instance."""
    state, failure = instance.state, instance.state.failure
    return {
        "name": instance.name,
        "incarnation": instance.incarnation,
        "version": instance.version,
        "stage": instance.stage,
        "since_unix_seconds": instance.since,
        "sequence": state.entry.sequence,
        "presence": instance.presence,
        "presence_since_unix_seconds": round(instance.presence_since, 3),
        "started_at_unix_seconds": state.started_at,
        "waits_for": state.waits_for,
        "attempts": state.attempts,
        "failures_in_row": state.failures_in_row,
        "failure": failure
        and {"kind": failure.kind, "error_type": failure.error_type, "reason": failure.reason},
        "conditions": {
            name: {"required": one.required, "satisfied": one.satisfied, "reason": one.reason}
            for name, one in state.conditions.items()
        },
        "untold": state.untold,
        "held_back": state.held_back,
        "draining": state.draining,
        "stuck_since_unix_seconds": state.stuck_since,
        "startup_seconds": state.startup_seconds,
        "steps": dict(state.steps),
    }


def news_json(one: FleetNews) -> tuple[str, dict[str, object], Iterable[Instance]]:
    """News: its name, what it says, and the instances that it is about."""
    match one:
        case Change(instance, changed):
            says: dict[str, object] = {
                "sequence": changed.sequence,
                "previous": changed.previous,
                "current": changed.current,
                "cause": changed.cause,
                "at_unix_seconds": changed.at,
                "elapsed_seconds": changed.elapsed_seconds,
            }
            return "change", says, [instance]
        case Presence(instance, presence):
            return "presence", {"presence": presence}, [instance]
        case Missed(instance, count):
            return "missed", {"count": count}, [instance]
        case SilentTogether(instances, of):
            names = [instance.incarnation for instance in instances]
            return "silent_together", {"incarnations": names, "of": of}, []
        case Contact(reached, reason):
            return "contact", {"reached": reached, "reason": reason}, []
