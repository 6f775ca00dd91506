"""Which hosts the status page, and the details of health checks, are told to."""

import json
from collections.abc import Collection

import anyio
import pytest

from orchestrator import Orchestrator
from orchestrator._http.asgi_types import ASGIApp
from orchestrator.asgi import health_app
from orchestrator.testing import ScriptedProbe
from orchestrator.web import web_app
from tests.asgi.gate_support import Caller, http_scope

pytestmark = pytest.mark.anyio

ALLOWED = [
    "Status.Example",
    "localhost:*",
    "127.0.0.1:80",
    "[::1]:8080",
    "fe80::1",
    "*.Example.com:8443",
    "*.svc",
    "bücher.example",
]

OURS = [
    "status.example",
    "STATUS.example.",
    "status.example:1",
    "localhost",
    "localhost:",
    "localhost:65535",
    "127.0.0.1",
    "127.0.0.1:80",
    "[::1]:8080",
    "[0:0:0:0:0:0:0:1]:8080",
    "[fe80::1]",
    "[FE80:0::1]:3",
    "a.example.com:8443",
    "a.b.example.com:8443",
    "chat.default.svc",
    "xn--bcher-kva.example",
]

OTHERS = [
    "evil.example",
    "status.example.evil.example",
    "evilstatus.example",
    "127.0.0.1:81",
    "127.0.0.2",
    "[::1]",
    "[::1]:80",
    "[::2]:8080",
    "::1",
    "example.com:8443",
    "evilexample.com:8443",
    "a.example.com",
    "localhost, evil.example",
    "localhost@evil.example",
    "evil.example@localhost",
    "localhost/evil.example",
    "localhost:80:80",
    "localhost:x",
    "localhost:999999",
    "localhost#",
    "*.svc",
    "[localhost]",
    "[",
    "[]",
    "",
    " ",
    "\xe9" * 80,
    "localhost\x00",
]


async def ask(app: ASGIApp, path: str, *hosts: str) -> Caller:
    scope = http_scope(path)
    scope["headers"] = [(b"host", host.encode("latin-1")) for host in hosts]
    caller = Caller(app, scope)
    with anyio.fail_after(30):
        await caller.run()
    assert caller.error is None
    return caller


def page(allowed: Collection[str] | None = ALLOWED) -> ASGIApp:
    return web_app(Orchestrator(ScriptedProbe()), allowed_hosts=allowed)


@pytest.mark.parametrize("host", OURS)
async def test_a_host_that_is_named_gets_the_page(host: str) -> None:
    app = page()
    for path in ("/", "/state"):
        assert (await ask(app, path, host)).status == 200


@pytest.mark.parametrize("host", OTHERS)
async def test_every_other_host_is_refused_everywhere(host: str) -> None:
    app = page()
    for path in ("", "/", "/state", "/events", "/nothing"):
        refused = await ask(app, path, host)
        assert refused.status == 421
        assert json.loads(refused.body)["title"] == "Misdirected Request"


async def test_a_request_names_exactly_one_host() -> None:
    app = page()
    assert (await ask(app, "/state")).status == 421
    assert (await ask(app, "/state", "localhost", "localhost")).status == 421
    assert (await ask(app, "/state", "localhost", "evil.example")).status == 421


async def test_without_a_list_every_host_does() -> None:
    assert (await ask(page(None), "/state", "evil.example")).status == 200


@pytest.mark.parametrize(
    "wrong",
    [
        "https://status.example",
        "",
        "*",
        "*.*",
        "a b",
        " a",
        "a/b",
        "a:b",
        "a:",
        "a@b",
        "[::g]",
        "[1.2.3.4]",
        ".",
        "\xe9" * 80,
    ],
)
def test_what_is_no_host_is_refused_where_it_is_given(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"allowed_hosts has .* write a name or an address"):
        page(["localhost", wrong])


def test_a_list_of_hosts_is_a_list_and_names_one() -> None:
    with pytest.raises(ValueError, match=r"write \['localhost'\]"):
        page("localhost")
    with pytest.raises(ValueError, match="leave it out"):
        page([])


async def test_a_health_check_is_answered_for_every_host_and_details_only_for_those_named() -> None:
    app = health_app(Orchestrator(ScriptedProbe()), details=True, allowed_hosts=["localhost"])
    for path, status in {"/livez": 200, "/readyz": 503}.items():
        for hosts in ([], ["10.0.0.7:8080"], ["evil.example"], ["localhost", "localhost"]):
            answer = await ask(app, path, *hosts)
            assert answer.status == status
            assert json.loads(answer.body).keys() == {"status", "stage"}
        assert "waits_for" in json.loads((await ask(app, path, "localhost:8080")).body)
