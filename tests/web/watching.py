"""Requests to a page's addresses, made by a test directly on its ASGI application."""

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio

from orchestrator._http.asgi_types import ASGIApp
from tests.asgi.gate_support import HANG_UP, Caller, http_scope, until


async def ask(
    app: ASGIApp, path: str, method: str = "GET", root_path: str = "", **headers: str
) -> Caller:
    scope = http_scope(path, method, root_path)
    scope["headers"] = [
        (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
    ]
    caller = Caller(app, scope)
    with anyio.fail_after(10):
        await caller.run()
    assert caller.error is None
    return caller


@dataclass
class Event:
    name: str
    data: dict[str, Any]
    number: str = ""


@dataclass
class Watcher:
    """A client of the stream."""

    caller: Caller

    @property
    def events(self) -> list[Event]:
        return list(self._parse())

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]

    def _parse(self) -> Iterator[Event]:
        for block in self.caller.body.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines())
            if "event" in fields:
                yield Event(fields["event"], json.loads(fields["data"]), fields.get("id", ""))


@asynccontextmanager
async def watching(app: ASGIApp, **headers: str) -> AsyncGenerator[Watcher]:
    scope = http_scope("/events")
    scope["headers"] = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    caller = Caller(app, scope)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller.run)
        await until(lambda: len(caller.sent) > 1)
        yield Watcher(caller)
        caller.give(HANG_UP)
        with anyio.fail_after(10):
            await caller.done.wait()
