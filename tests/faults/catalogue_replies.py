"""The faults that Redis itself tells: it is in trouble, it refuses, or it is not what is needed."""

from orchestrator.redis import Expect
from states import FailureKind
from tests.faults import net_scenes as net
from tests.faults import real_scenes as real
from tests.faults.fault import Fault
from tests.faults.scenes import SECRET

_T, _P = FailureKind.TRANSIENT, FailureKind.PERMANENT

_LOGIN = "rejected the login: wrong password or user, or a user that is switched off (WRONGPASS)"

_MASTER = Expect(role="master")
_CLUSTER = Expect(cluster=True)
_CANARY = Expect(canary_prefix="canary:")

TROUBLE = (
    Fault("loads its data", real.loading, _T, "LOADING", "is still loading its data (LOADING)"),
    Fault("runs a script", real.busy, _T, "BUSY", "is busy running a script (BUSY)"),
    Fault(
        "cannot save",
        real.configured(change=real.fail_to_save),
        _T,
        "MISCONF",
        "cannot save to its disk (MISCONF)",
    ),
    Fault(
        "too many clients",
        real.configured(change=lambda server: server.admin.config_set("maxclients", 1)),
        _T,
        "MaxClients",
        "has too many clients already",
    ),
    Fault(
        "a replica whose master died",
        real.orphaned_replica,
        _T,
        "MASTERDOWN",
        "has no link to its master, or not its data yet (MASTERDOWN)",
        variants=(None,),
    ),
    Fault(
        "a replica in its first synchronisation",
        real.replica_in_first_sync,
        _T,
        "MASTERDOWN",
        "has no link to its master, or not its data yet (MASTERDOWN)",
        variants=(None,),
    ),
)

UNFIT = (
    Fault("a read-only replica", real.replica(Expect()), None),
    Fault(
        'a read-only replica, with `Expect(role="master")`',
        real.replica(_MASTER),
        _T,
        "ReadOnlyReplica",
        "is a replica, not a master",
    ),
    Fault(
        "a read-only replica, with a canary",
        real.replica(_CANARY),
        _T,
        "READONLY",
        "is a read-only replica (READONLY)",
    ),
    Fault("out of memory", real.configured("--maxmemory", "1"), None),
    Fault(
        "out of memory, with a canary",
        real.configured("--maxmemory", "1", expect=_CANARY),
        _T,
        "OOM",
        "has no memory left for writing (OOM)",
    ),
    Fault(
        "too few replicas, with a canary",
        real.configured("--min-replicas-to-write", "1", expect=_CANARY),
        _T,
        "NOREPLICAS",
        "has too few replicas to write (NOREPLICAS)",
    ),
    Fault("a cluster that is down", net.lone_node(Expect()), None),
    Fault(
        "a cluster that is down, with `Expect(cluster=True)`",
        net.lone_node(_CLUSTER),
        _T,
        "CLUSTERDOWN",
        "has a cluster that is down (CLUSTERDOWN)",
    ),
    Fault(
        "no cluster, with `Expect(cluster=True)`",
        real.configured(expect=_CLUSTER),
        _P,
        "NotACluster",
        "is not a node of a cluster",
    ),
)

REFUSING = (
    Fault(
        "wrong password",
        real.logging_in(real.locked, f":not-{SECRET}@"),
        _P,
        "AuthenticationError",
        _LOGIN,
    ),
    Fault(
        "missing password",
        real.locked,
        _P,
        "AuthenticationError",
        "wants a password, and none was given (NOAUTH)",
    ),
    Fault(
        "a password where none is set, in RESP2",
        real.logging_in(real.configured(), f":{SECRET}@", "/0?protocol=2"),
        _P,
        "AuthenticationError",
        "wants no password, but one was given: remove it, or set one there",
    ),
    Fault(
        "a password where none is set, in RESP3",
        real.logging_in(real.configured(), f":{SECRET}@", "/0?protocol=3"),
        None,
        note="HELLO takes any password then: the client works too",
    ),
    Fault(
        "a server without HELLO, in RESP3",
        real.logging_in(real.configured("--rename-command", "HELLO", ""), "", "/0?protocol=3"),
        _P,
        "UnknownCommand",
        "does not know HELLO: use protocol=2",
    ),
    Fault(
        "a server without HELLO, in RESP2",
        real.logging_in(real.configured("--rename-command", "HELLO", ""), "", "/0?protocol=2"),
        None,
        note="the client works too",
    ),
    Fault(
        "a user that is switched off",
        real.logging_in(real.configured(change=real.allow("off", "+@all")), f"me:{SECRET}@"),
        _P,
        "AuthenticationError",
        _LOGIN,
    ),
    Fault(
        "a user without PING",
        real.logging_in(
            real.configured(change=real.allow("on", "+@all", "-ping")), f"me:{SECRET}@"
        ),
        _P,
        "NOPERM",
        "forbids this user PING (NOPERM)",
    ),
    Fault(
        "a user without the canary's key",
        real.logging_in(
            real.configured(change=real.allow("on", "+@all", "~chat:*"), expect=_CANARY),
            f"me:{SECRET}@",
        ),
        _P,
        "NOPERM",
        "forbids this user SET (NOPERM)",
    ),
    Fault(
        "a database out of range",
        real.logging_in(real.configured(), "", "/99"),
        _P,
        "DatabaseError",
        "has no database of that number",
    ),
    Fault(
        "protected mode",
        net.protected,
        _P,
        "DENIED",
        "is in protected mode: give it a password (DENIED)",
    ),
    Fault(
        "PING renamed away",
        real.configured("--rename-command", "PING", "NOT-PING"),
        _P,
        "UnknownCommand",
        "does not know a command of Redis",
    ),
)
