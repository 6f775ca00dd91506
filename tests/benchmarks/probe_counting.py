"""What Redis itself counts."""

import redis


def commands_so_far(watcher: redis.Redis) -> int:
    """How many commands a server was sent, without INFO, which is how this is asked."""
    stats = [one for name, one in watcher.info("commandstats").items() if name != "cmdstat_info"]
    # What a server does not know is not among its commands, but among its error replies.
    errors = watcher.info("stats")["total_error_replies"]
    failed = sum(stat["failed_calls"] for stat in stats)
    return int(sum(stat["calls"] for stat in stats) + errors - failed)


def processor_seconds(watcher: redis.Redis) -> float:
    """The processor time that a server has spent, by its own account (getrusage)."""
    info = watcher.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])
