"""TLS options that work for a client work for the probe; those that cannot are named at once."""

import functools
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import redis

from orchestrator.redis import RedisProbe
from tests.certificates import HAVE_OPENSSL, PASS_PHRASE, make_certificates
from tests.faults.net_scenes import tls_server
from tests.faults.scenes import Unavailable
from tests.redis.oracle import BACKENDS, KINDS, by_client, by_url, no_retry, said_by_probe

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not HAVE_OPENSSL, reason="needs openssl for certificates"),
]


@pytest.fixture
def backend() -> str:
    """Now the one and now the other: TLS is a thread's."""
    return next(BACKENDS)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tls")
    make_certificates(directory)
    (directory / "junk.pem").write_text("junk\n")
    (directory / "empty.pem").touch()
    (directory / "folder.pem").mkdir()
    frame = "-----{} CERTIFICATE-----\n"
    (directory / "none.pem").write_text(frame.format("BEGIN") + "AAAA\n" + frame.format("END"))
    both = (directory / "client.pem").read_text() + (directory / "client.key").read_text()
    (directory / "both.pem").write_text(both)
    return directory


@pytest.fixture(scope="module")
def port(files: Path) -> Iterator[int]:
    """Of a Redis that wants a client certificate."""
    try:
        stage = tls_server(files, "yes")
        number = stage.__enter__()
    except Unavailable as error:
        pytest.skip(str(error))
    yield number
    stage.__exit__(None, None, None)


TRUST = {"ssl_ca_certs": "ca.pem"}
CLIENT = {"ssl_certfile": "client.pem", "ssl_keyfile": "client.key"}
ENCRYPTED = {"ssl_certfile": "client.pem", "ssl_keyfile": "encrypted.key"}
GOOD: tuple[dict[str, str], ...] = (
    {**TRUST, **CLIENT},
    {**TRUST, "ssl_certfile": "both.pem"},
    {**TRUST, **ENCRYPTED, "ssl_password": PASS_PHRASE},
    {**TRUST, **CLIENT, "ssl_password": "not needed"},
    {**CLIENT, "ssl_cert_reqs": "none"},
    {**CLIENT, "ssl_cert_reqs": "none", "ssl_check_hostname": "false"},
    {**TRUST, **CLIENT, "ssl_ciphers": "ECDHE+AESGCM"},
    {**TRUST, **CLIENT, "ssl_check_hostname": "true"},
)

BAD: tuple[tuple[dict[str, str], str], ...] = (
    ({**TRUST, "ssl_certfile": "client.pem", "ssl_keyfile": "no.key"}, "ssl_keyfile"),
    ({**TRUST, "ssl_certfile": "no.pem", "ssl_keyfile": "client.key"}, "ssl_certfile"),
    ({**TRUST, "ssl_certfile": "folder.pem", "ssl_keyfile": "client.key"}, "ssl_certfile"),
    ({**TRUST, "ssl_certfile": "client.pem", "ssl_keyfile": "server.key"}, "ssl_keyfile"),
    ({**TRUST, "ssl_certfile": "client.pem", "ssl_keyfile": "ca.key"}, "ssl_keyfile"),
    ({**TRUST, "ssl_certfile": "client.pem", "ssl_keyfile": "junk.pem"}, "ssl_keyfile"),
    ({**TRUST, "ssl_certfile": "client.pem", "ssl_keyfile": "empty.pem"}, "ssl_keyfile"),
    ({**TRUST, "ssl_certfile": "junk.pem", "ssl_keyfile": "client.key"}, "ssl_certfile"),
    ({**TRUST, "ssl_certfile": "none.pem", "ssl_keyfile": "client.key"}, "ssl_certfile"),
    ({**TRUST, "ssl_certfile": "client.pem"}, "ssl_certfile"),
    ({**TRUST, "ssl_keyfile": "client.key"}, "ssl_keyfile"),
    ({**TRUST, **ENCRYPTED, "ssl_password": "no"}, "ssl_password"),
    ({**CLIENT, "ssl_ca_certs": "no.pem"}, "ssl_ca_certs"),
    ({**CLIENT, "ssl_ca_certs": "junk.pem"}, "ssl_ca_certs"),
    ({**CLIENT, "ssl_ca_certs": "empty.pem"}, "ssl_ca_certs"),
    ({**CLIENT, "ssl_ca_certs": "client.key"}, "ssl_ca_certs"),
    ({**CLIENT, "ssl_ca_data": "junk"}, "ssl_ca_data"),
    ({**CLIENT, "ssl_ca_data": "\u00fc"}, "ssl_ca_data"),
    ({**TRUST, **CLIENT, "ssl_ciphers": "NOPE"}, "ssl_ciphers"),
    ({**TRUST, **CLIENT, "ssl_cert_reqs": "sometimes"}, "ssl_cert_reqs"),
    ({**TRUST, **CLIENT, "ssl_min_version": "5"}, "ssl_min_version"),
    ({**TRUST, **CLIENT, "ssl_include_verify_flags": "NOPE"}, "ssl_include_verify_flags"),
    ({**TRUST, **CLIENT, "ssl_no_such_thing": "1"}, "ssl_no_such_thing"),
)
"""Options, and what must be named."""


def with_paths(options: Mapping[str, str], files: Path) -> dict[str, str]:
    return {
        name: str(files / value) if value.endswith((".pem", ".key")) else value
        for name, value in options.items()
    }


def url(port: int, options: Mapping[str, str]) -> str:
    return f"rediss://127.0.0.1:{port}/0?{urlencode(options)}"


@pytest.mark.parametrize("options", GOOD, ids=str)
def test_options_of_tls_that_work(
    port: int, files: Path, options: dict[str, str], backend: str
) -> None:
    given = with_paths(options, files)
    verdict = by_url(backend, url(port, given))
    assert (verdict.client, verdict.probe) == ("", "ready")
    if "ssl_check_hostname" in given:
        return
    for kind in KINDS:
        made = functools.partial(
            kind, host="127.0.0.1", port=port, ssl=True, retry=no_retry(), **given
        )
        try:
            made()
        except TypeError:
            continue  # a client of `redis.asyncio` before 8 has no ssl_password
        verdict = by_client(backend, made, str(options))
        assert verdict.agree, verdict
        # Clients of `redis.asyncio` before 8 take no certificate without a file for its key.
        assert verdict.client == "" or options == {**TRUST, "ssl_certfile": "both.pem"}


@pytest.mark.parametrize(("options", "named"), BAD, ids=str)
def test_an_option_of_tls_that_cannot_work_is_permanent_and_named(
    port: int, files: Path, options: dict[str, str], named: str, backend: str
) -> None:
    given = with_paths(options, files)
    verdict = by_url(backend, url(port, given))
    assert verdict.client, verdict
    assert verdict.probe.startswith(("permanent ", "refused: "))
    assert named in verdict.probe
    assert str(files) not in verdict.probe


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"ssl_ca_data": b"junk"}, "ssl_ca_data"),
        ({"ssl_ca_data": ""}, "ssl_ca_data"),
        ({"ssl_ca_data": 7}, "ssl_ca_data"),
        ({"ssl_certfile": 7.5, "ssl_keyfile": "x"}, "ssl_certfile"),
        ({"ssl_min_version": "TLSv1.2"}, "ssl_min_version"),
        ({"ssl_cert_reqs": "sometimes"}, "ssl_cert_reqs"),
        ({"ssl_ciphers": 7}, "ssl_ciphers"),
        ({"ssl_validate_ocsp": True, "ssl_validate_ocsp_stapled": True}, "ssl_validate_ocsp"),
        ({"ssl_validate_ocsp": True}, "ssl_validate_ocsp"),
        ({"ssl_validate_ocsp_stapled": True}, "ssl_validate_ocsp_stapled"),
    ],
    ids=str,
)
def test_an_option_of_a_client_that_cannot_work_is_permanent_and_named(
    port: int, files: Path, options: dict[str, Any], named: str, backend: str
) -> None:
    given = {**with_paths({**TRUST, **CLIENT}, files), **options}
    made = functools.partial(
        redis.Redis, host="127.0.0.1", port=port, ssl=True, retry=no_retry(), **given
    )
    verdict = by_client(backend, made, str(options))
    if verdict.client == "" and verdict.probe == "ready":
        assert options == {"ssl_ca_data": ""}  # some versions of redis-py pass over it
        return
    assert verdict.client, verdict
    assert verdict.probe.startswith(("permanent ", "refused: ")), verdict
    assert named in verdict.probe


def test_what_only_the_server_says_stays_as_it_is(port: int, files: Path, backend: str) -> None:
    stranger = url(port, {})
    assert "the certificate of" in said_by_probe(backend, lambda: RedisProbe(stranger))
    nobody = url(port, with_paths(TRUST, files))
    said = said_by_probe(backend, lambda: RedisProbe(nobody))
    assert said.startswith(("permanent CertificateError: redis at", "transient ConnectionClosed"))


# -- nothing asks the terminal --------------------------------------------------------------------

ASK = """
import anyio
from orchestrator.redis import RedisProbe

async def main():
    failure = (await RedisProbe({url!r}).attempt(20)).failure
    print(failure.kind, failure.reason)

anyio.run(main)
print("left:", input())
"""


def without_pass_phrase(port: int, files: Path) -> str:
    return url(port, with_paths({**TRUST, **ENCRYPTED}, files))


def test_no_pass_phrase_is_read_from_standard_input(port: int, files: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASK.format(url=without_pass_phrase(port, files))],
        input=f"{PASS_PHRASE}\n{PASS_PHRASE}\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        start_new_session=True,  # no terminal: OpenSSL would read standard input
    )
    said, left = done.stdout.splitlines()
    assert said.startswith("permanent no TLS to")
    assert said.endswith("is encrypted, and there is no ssl_password")
    assert left == f"left: {PASS_PHRASE}"
    assert done.stderr == ""


def test_wait_leaves_standard_input_to_its_command(port: int, files: Path) -> None:
    place = without_pass_phrase(port, files)
    command = [sys.executable, "-m", "orchestrator", "wait", "--redis", place, "--", "cat"]
    done = subprocess.run(
        command,
        input=f"{PASS_PHRASE}\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        start_new_session=True,
    )
    assert done.returncode not in (0, None)
    assert "ssl_password" in done.stderr
    assert "PEM pass phrase" not in done.stderr + done.stdout
    assert PASS_PHRASE not in done.stdout


def test_no_pass_phrase_is_asked_of_the_terminal(port: int, files: Path) -> None:
    child, terminal = pty.fork()
    if child == 0:
        script = ASK.format(url=without_pass_phrase(port, files))
        os.execv(sys.executable, [sys.executable, "-c", script])  # noqa: S606  a program of ours
    seen = b""
    until = time.monotonic() + 60
    try:
        while b"ssl_password" not in seen and b"phrase" not in seen and time.monotonic() < until:
            if select.select([terminal], [], [], 1)[0]:
                seen += os.read(terminal, 4096)
        os.write(terminal, b"done\n")
    finally:
        os.waitpid(child, 0)
        os.close(terminal)
    assert b"phrase" not in seen
    assert b"there is no ssl_password" in seen
