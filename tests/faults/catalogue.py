"""The faults, in one list: the tests, the table and the page of failures are made from it."""

from states import FailureKind
from tests.faults import net_scenes as net
from tests.faults import real_scenes as real
from tests.faults import scenes
from tests.faults.catalogue_replies import REFUSING, TROUBLE, UNFIT
from tests.faults.fault import Fault, played
from tests.faults.scenes import SECRET
from tests.redis_server import greeted_then

_T, _P = FailureKind.TRANSIENT, FailureKind.PERMANENT

_SILENT = "gave no answer to PING within 0.3 s, on an accepted connection"
_SILENT_AT_FIRST = "gave no answer to the greeting within 0.3 s, on an accepted connection"
_CLOSED = (
    "closed the connection without an answer (PING): is it stopping, or does one side expect TLS?"
)
_NO_REDIS = "is not Redis, or expects TLS (rediss://): it speaks another protocol"

_NOBODY = (
    Fault(
        "nothing listens",
        scenes.refused,
        _T,
        "ConnectionRefusedError",
        "refused the connection: nothing listens there",
        0,
    ),
    Fault(
        "no such Unix socket",
        scenes.no_socket,
        _T,
        "FileNotFoundError",
        ": there is no such socket yet",
        0,
    ),
    Fault(
        "the name does not exist",
        scenes.unknown_name,
        _T,
        "NameResolutionError",
        ": the name cannot be resolved; check it and the DNS resolver",
        0,
    ),
    played(
        "the resolver hangs",
        scenes.hung_name,
        _T,
        "TimeoutError",
        ": the name was not resolved within 0.3 s; check the DNS resolver",
        0,
    ),
    Fault(
        "the backlog is full",
        scenes.full_backlog,
        _T,
        "ConnectTimeout",
        "did not accept a connection within 0.3 s: check the address, the firewall and how busy"
        " the server is",
        0,
    ),
)

_LATE = (
    Fault("frozen before the connection", real.frozen, _T, "TimeoutError", _SILENT_AT_FIRST),
    Fault("frozen while connected", real.frozen_warm, _T, "TimeoutError", _SILENT, warm=True),
    Fault("CLIENT PAUSE", real.paused, _T, "TimeoutError", _SILENT, warm=True),
    played(
        "accepts and never answers",
        scenes.fake(scenes.until_left),
        _T,
        "TimeoutError",
        _SILENT_AT_FIRST,
    ),
    played("a reply that drips", scenes.fake(scenes.drip), _T, "TimeoutError", _SILENT_AT_FIRST),
    played(
        "each reply soon enough, all together too late",
        scenes.fake(scenes.each_reply_late, "/1", f"me:{SECRET}@"),
        _T,
        "TimeoutError",
        _SILENT_AT_FIRST,
    ),
    played(
        "a huge reply that stalls",
        scenes.fake(scenes.stalled_bulk),
        _T,
        "TimeoutError",
        _SILENT_AT_FIRST,
    ),
    Fault(
        "TLS is asked of a server without it",
        net.plaintext_asked_for_tls,
        _T,
        "TimeoutError",
        "did not finish the TLS handshake within 0.3 s: is TLS on there?",
        variants=((_P, "TlsMismatch"), (_T, "ConnectionClosed")),
    ),
)

_BROKEN = (
    played(
        "closes at once",
        scenes.fake(lambda _: None),
        _T,
        "ConnectionClosed",
        _CLOSED,
    ),
    played("reset", scenes.fake(scenes.reset), _T, "ConnectionClosed", _CLOSED),
    played(
        "closes in the middle of a reply",
        scenes.fake(scenes.closed_mid_reply),
        _T,
        "ConnectionClosed",
        _CLOSED,
    ),
)

_TLS = (
    Fault(
        "an unknown authority",
        net.over_tls(trust=False),
        _P,
        "CertificateError",
        "the certificate of {where} is not accepted: self-signed certificate in certificate chain",
        variants=((_P, "CertificateError"),),
    ),
    Fault(
        "a certificate for another name",
        net.over_tls(host="localhost"),
        _P,
        "CertificateError",
        "the certificate of {where} is not accepted: Hostname mismatch, certificate is not valid"
        " for 'localhost'.",
        variants=((_P, "CertificateError"),),
    ),
    Fault(
        "a client certificate is wanted",
        net.over_tls(client="yes"),
        _P,
        "CertificateError",
        "and this client do not agree on TLS or the client certificate"
        " (TLSV13_ALERT_CERTIFICATE_REQUIRED)",
        variants=((_P, "CertificateError"), (_T, "ConnectionClosed")),
    ),
    Fault(
        "no TLS is asked of a server with it",
        net.over_tls(scheme="redis"),
        _T,
        "ConnectionClosed",
        _CLOSED,
        variants=((_P, "InvalidResponse"),),
    ),
)

_OPTIONS = (
    Fault(
        "a key that is not there",
        net.over_tls(ours={"ssl_certfile": "client.pem", "ssl_keyfile": "no.key"}),
        _P,
        "CertificateError",
        "no TLS to {where}: ssl_keyfile names a file that is not there",
    ),
    Fault(
        "a key of another certificate",
        net.over_tls(ours={"ssl_certfile": "client.pem", "ssl_keyfile": "server.key"}),
        _P,
        "CertificateError",
        "no TLS to {where}: ssl_keyfile holds the key of another certificate",
    ),
    Fault(
        "an encrypted key without a pass phrase",
        net.over_tls(ours={"ssl_certfile": "client.pem", "ssl_keyfile": "encrypted.key"}),
        _P,
        "CertificateError",
        "no TLS to {where}: the private key in ssl_keyfile is encrypted, and there is no"
        " ssl_password",
    ),
    Fault(
        "authorities that are none",
        net.over_tls(ours={"ssl_ca_data": "junk"}),
        _P,
        "CertificateError",
        "no TLS to {where}: ssl_ca_data holds no certificate",
    ),
    Fault(
        "ciphers that select nothing",
        net.over_tls(ours={"ssl_ciphers": "NOPE"}),
        _P,
        "BadOptions",
        "no TLS to {where}: ssl_ciphers selects nothing",
    ),
    played(
        "an answer slower than the client's `socket_timeout`",
        scenes.fake(scenes.each_reply_late, "/0?socket_timeout=0.1"),
        _T,
        "SocketTimeout",
        "{where} gave no answer to the greeting within the 0.1 s of the client's socket_timeout",
    ),
)

_STRANGERS = (
    Fault("an HTTP server", net.http_server, _P, "InvalidResponse", _NO_REDIS),
    played(
        "an SMTP server",
        scenes.fake(scenes.greeting_of_smtp),
        _P,
        "InvalidResponse",
        _NO_REDIS,
    ),
    played(
        "20 MB of garbage",
        scenes.fake(scenes.answering(b"+" + b"\xa7" * 20_000_000)),
        _P,
        "InvalidResponse",
        _NO_REDIS,
    ),
    played(
        "a reply that says it has 20 MB",
        scenes.fake(scenes.impossible_bulk),
        _P,
        "InvalidResponse",
        _NO_REDIS,
    ),
    played(
        "PING is answered by something else",
        scenes.fake(greeted_then(b"+" + SECRET.encode() + b"\r\n")),
        _P,
        "WrongAnswer",
        "answered, but not as Redis does: is it a proxy?",
    ),
)

_SENTINELS = (
    Fault(
        "no sentinel answers",
        net.no_sentinel,
        _T,
        "SentinelsUnreachable",
        "cannot be found: none of its 3 sentinels answered",
        0,
    ),
    Fault(
        "the sentinels do not know the name",
        net.unknown_service,
        _P,
        "UnknownMaster",
        "is not known to its sentinels: check the service name",
        0,
    ),
    Fault(
        "the sentinels name a dead master",
        net.dead_master,
        _T,
        "ConnectionRefusedError",
        "refused the connection: nothing listens there",
        0,
    ),
    played(
        "a sentinel names no address",
        net.sentinel_names_no_address,
        _P,
        "WrongAnswer",
        "answered, but not as Redis does: is it a proxy?",
        0,
    ),
    played(
        "the sentinels name a replica",
        net.sentinel_names_a_replica,
        _T,
        "ReadOnlyReplica",
        "is a replica, not a master",
    ),
)

GROUPS: dict[str, tuple[Fault, ...]] = {
    "Nobody there": _NOBODY,
    "No answer in time": _LATE,
    "The connection breaks": _BROKEN,
    "Redis is in trouble": TROUBLE,
    "PING is not enough": UNFIT,
    "Redis refuses": REFUSING,
    "TLS": _TLS,
    "The client's own options": _OPTIONS,
    "No Redis": _STRANGERS,
    "Sentinels": _SENTINELS,
}

FAULTS: tuple[Fault, ...] = tuple(fault for group in GROUPS.values() for fault in group)
