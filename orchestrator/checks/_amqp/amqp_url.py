"""Reads an AMQP URL as the usual clients do, but strictly.

https://www.rabbitmq.com/docs/uri-spec and /uri-query-parameters; pika, aio-pika and kombu (Celery)
differ from it in that an empty path means the virtual host `/`, and in the names of options.
"""

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from orchestrator._hardening.arguments import wrong_type
from orchestrator._hardening.text import mistake_in
from orchestrator._probing.addresses import Place, is_host
from orchestrator._probing.tls_files import TlsFiles

_SCHEMES = {"amqp": False, "pyamqp": False, "amqps": True}
_DEFAULT_HOST = "localhost"
_PORTS = {False: 5672, True: 5671}
_MOST_NAME_BYTES = 255
"""The longest short string of AMQP."""


_AUTHORITIES = ("cafile", "cacertfile", "ca_certs", "ssl_ca_certs")
_CERTIFICATE = ("certfile", "ssl_certfile")
_KEY = ("keyfile", "ssl_keyfile")
_VERIFY = ("verify", "no_verify_ssl", "verify_ssl", "ssl_cert_reqs")
_MECHANISM = ("auth_mechanism", "auth")
_OF_CLIENTS = frozenset(
    {
        *("name", "heartbeat", "connection_timeout", "channel_max", "frame_max", "locale"),
        *("connection_attempts", "retry_delay", "socket_timeout", "blocked_connection_timeout"),
        *("stack_timeout", "timeout", "fail_fast", "reconnect_interval", "interleave"),
        *("happy_eyeballs_delay", "login_method"),
    }
)
"""What clients take from a URL; a check has its own numbers for these, or no use for them."""

_USED = frozenset(
    (*_AUTHORITIES, *_CERTIFICATE, *_KEY, *_VERIFY, *_MECHANISM, "capath", "password", "keypass")
) | {"server_name_indication"}


@dataclass(frozen=True, slots=True)
class Broker(Place):
    """One broker, and the way in. Its `repr` shows no secret.

    Attributes:
        user: Who logs in.
        password: The password.
        vhost: The virtual host.
        tls: Whether to speak TLS.
        files: The files for it.
        verify: Whether the certificate must be trusted.
        server_name: What it must be for; empty for the host.
        external: Whether the client's certificate says who it is (SASL EXTERNAL).
    """

    user: str = "guest"
    password: str = field(default="guest", repr=False)
    vhost: str = "/"
    tls: bool = False
    files: TlsFiles = field(default_factory=TlsFiles)
    verify: bool = True
    server_name: str = ""
    external: bool = False


def brokers_of(url: str) -> tuple[Broker, ...]:
    """The brokers of a URL, or of several with `;` between them, as Celery has it.

    Raises:
        TypeError: When it is no `str`.
        ValueError: When it has a mistake. The text names the option and holds nothing else of it.
    """
    given: object = url
    if not isinstance(given, str):
        raise wrong_type(given, "url", "a str", "write amqp('amqp://user:password@host/vhost')")
    return tuple(_broker(one) for one in given.split(";"))


def _broker(url: str) -> Broker:
    try:
        parts = urlsplit(url)
        port, host = parts.port, unquote(parts.hostname or "")
        options = dict(
            parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        )
    except ValueError:
        raise ValueError(
            "the AMQP URL is malformed: its port must be a number, and special characters in the"
            " password must be percent-encoded"
        ) from None
    tls = _SCHEMES.get(parts.scheme)
    if tls is None or not url.startswith(f"{parts.scheme}://"):
        begin = "must begin with amqp:// or amqps://"
        raise ValueError(f"the AMQP URL {mistake_in(url, begin)}")
    if parts.fragment or "@" in parts.query or "@" in parts.path:
        raise ValueError(
            "the AMQP URL has a '#', '/', '?' or '@' in its password: percent-encode it"
        )
    if not is_host(host or _DEFAULT_HOST) or port == 0:
        raise ValueError("the AMQP URL has an invalid host or port")
    user = unquote(parts.username or "") or "guest"
    vhost = unquote(parts.path[1:]) or "/"
    if len(vhost.encode(errors="replace")) > _MOST_NAME_BYTES:
        raise ValueError("the AMQP URL has a virtual host of more than 255 bytes")
    return Broker(
        "RabbitMQ",
        host or _DEFAULT_HOST,
        port or _PORTS[tls],
        user=user,
        password="guest" if parts.password is None else unquote(parts.password),
        vhost=vhost,
        tls=tls,
        **_options(options, tls=tls),  # type: ignore[arg-type]  # each has the type of its field
    )


def _options(options: dict[str, str], *, tls: bool) -> dict[str, object]:
    for name in options:
        if name not in _OF_CLIENTS and name not in _USED:
            named = f": {name}" if name.isidentifier() else ""
            raise ValueError(f"the AMQP URL has an unknown option{named}")
        if name in _USED and name not in _MECHANISM and not tls:
            raise ValueError(f"the AMQP URL's option {name} is for TLS: begin with amqps://")

    def first(names: tuple[str, ...]) -> tuple[str, str]:
        return next(((name, options[name]) for name in names if name in options), (names[0], ""))

    (authorities_name, authorities), (certificate_name, certificate) = map(
        first, (_AUTHORITIES, _CERTIFICATE)
    )
    key_name, key = first(_KEY)
    mechanism = first(_MECHANISM)[1].upper() or "PLAIN"
    if mechanism not in ("PLAIN", "EXTERNAL", "AMQPLAIN", "DEFAULT"):
        raise ValueError("the AMQP URL asks for a mechanism to log in other than plain or external")
    names = (authorities_name, certificate_name, key_name)
    password = options.get("password") or options.get("keypass") or ""
    return {
        "files": TlsFiles(
            authorities, options.get("capath", ""), certificate, key, password, names
        ),
        "verify": _verifies(options),
        "server_name": options.get("server_name_indication", ""),
        "external": mechanism == "EXTERNAL",
    }


def _verifies(options: dict[str, str]) -> bool:
    if options.get("no_verify_ssl", "0").lower() in ("1", "true", "yes"):
        return False
    wanted = [options.get(name, "").lower() for name in ("verify", "verify_ssl", "ssl_cert_reqs")]
    return not {"verify_none", "cert_none", "none", "0", "false", "no"} & {*wanted}
