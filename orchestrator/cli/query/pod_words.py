"""Which worker of a service has answered, and how the others stand, in words."""

from collections.abc import Mapping

from orchestrator.cli._shell.foreign_text import listed, number, shown


def workers_in_words(state: Mapping[str, object]) -> list[tuple[str, str]]:
    """Each worker and how it stands; empty for a service that says nothing of workers.

    Args:
        state: What the service says.
    """
    pod = state.get("pod")
    if not isinstance(pod, dict):
        return []
    if pod.get("alone"):
        return [(shown(pod.get("pid")), "answers for itself alone")]
    data = pod.get("workers")
    ready, expected, joined = (_count(pod.get(name)) for name in ("ready", "expected", "joined"))
    words = [("all", f"{ready} of {expected} are ready, {joined} have joined")]
    for one in data if isinstance(data, list) else ():
        if isinstance(one, dict):
            waits = "; ".join(listed(one.get("waits_for")))
            stands = f"stuck for {_count(one.get('beat_seconds'))} s" if one.get("stuck") else ""
            stands = stands or ("draining" if one.get("draining") else shown(one.get("stage")))
            stands += f", waits for: {waits}" if waits else ""
            stands += " (this one has answered)" if one.get("answers") else ""
            words.append((shown(one.get("pid")), stands))
    return words


def _count(value: object) -> str:
    known = number(value)
    return "?" if known is None else f"{known:.0f}"
