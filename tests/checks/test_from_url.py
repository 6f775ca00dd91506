"""A probe by its URL."""

import base64
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator import Target
from orchestrator.checks import from_url
from tests.checks.checks_support import asked, server

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

TARGETS = {
    "tcp://db.internal:5432": Target("tcp", "db.internal", 5432),
    "TCP://[::1]:1/": Target("tcp", "::1", 1),
    "http://billing/health?deep=1": Target("http", "billing", 80),
    "https://u:p@billing:8443": Target("http", "billing", 8443),
    "pyamqp://u:p@mq//": Target("rabbitmq", "mq", 5672),
    "grpc://users:50051/users.v1.Users": Target("grpc", "users", 50051),
    "grpcs://[::1]:1": Target("grpc", "::1", 1),
    "kafka://a:9092,b:9093": Target("kafka", "a", 9092),
    "kafka+ssl://u:p%2F@a?sasl=SCRAM-SHA-512": Target("kafka", "a", 9092),
    "postgresql://u:p@db,standby/app": Target("postgresql", "db", 5432, "app"),
    "POSTGRES+asyncpg://u:p@db:1/app?ssl=require": Target("postgresql", "db", 1, "app"),
    "amqp://u:p@rabbit/orders": Target("rabbitmq", "rabbit", 5672),
    "amqps://rabbit": Target("rabbitmq", "rabbit", 5671),
    "file:///run/ready": Target("file", "/run/ready"),
    "file://localhost/run/a%20b?newer_than_seconds=2.5": Target("file", "/run/a b"),
}


def test_each_scheme_has_its_probe() -> None:
    for url, target in TARGETS.items():
        assert replace(from_url(url).target, operation="") == target, url


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "is empty: is the variable that it comes from set.; write one of postgresql://"),
        ("'tcp://hunter2:1'", "has quotes around it"),
        ("localhost:5432", "does not begin with a scheme"),
        ("hunter2@db", "does not begin with a scheme"),
        ("ftp://u:hunter2@h", "nothing here can ask that; write one of postgresql://"),
        ("tcp://h", "needs a port"),
        ("tcp://h:hunter2", "needs a port"),
        ("tcp://h:99999", "needs a port"),
        ("tcp://:5", "host is empty"),
        ("tcp://h:5/hunter2", "nothing else"),
        ("grpc://h", "needs a port .* grpc://HOST:PORT"),
        ("grpc://hunter2@h:1", "nothing else"),
        ("kafka://u:hunter2@a", "goes with a user"),
        ("kafka://a?sasl=PLAIN", "goes with a user"),
        ("kafka://u:hunter2@a?sasl=hunter2", "."),
        ("kafka://a/hunter2", "write kafka://"),
        ("http://[hunter2/", "percent-encode"),
        ("http://", "cannot be used"),
        ("file://run/hunter2", "three slashes|file:///PATH"),
        ("file:///x?newer_than_seconds=hunter2", "is not a number"),
        ("file:///x?newer_than_seconds=0", "above 0"),
        ("file:///x?older=hunter2", "file:///PATH"),
    ],
)
def test_what_cannot_be_asked_is_refused_without_a_word_of_the_url(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        from_url(url)
    assert "hunter2" not in str(refused.value)


def test_a_missing_package_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h2", None)
    with pytest.raises(ValueError, match=r"install startup-orchestrator\[grpc\]$"):
        from_url("grpc://h:1")


def test_something_else_than_text_is_refused() -> None:
    with pytest.raises(TypeError, match="write from_url"):
        from_url(5)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.anyio
async def test_a_login_is_sent_and_never_shown() -> None:
    heard: list[bytes] = []
    with server(OK, heard=heard) as port:
        probe = from_url(f"http://us%40er:hunter%2F2@127.0.0.1:{port}/")
        assert (await asked(probe)).failure is None
    login = base64.b64encode(b"us@er:hunter/2").decode()
    assert f"\r\nAuthorization: Basic {login}\r\n".encode() in heard[0]
    assert "hunter" not in repr(probe) + repr(probe.target)


@pytest.mark.anyio
async def test_a_file_may_have_an_age(tmp_path: Path) -> None:
    path = tmp_path / "ready file"
    path.touch()
    url = f"{path.as_uri()}?newer_than_seconds=60"
    assert (await asked(from_url(url))).failure is None
    os.utime(path, (1, 1))
    failure = (await asked(from_url(url))).failure
    assert failure is not None
    assert failure.error_type == "StaleFile"
