"""Clients that cost next to nothing, so that a thousand of them leave the machine to the server."""

import asyncio
import random
import re
import struct
from dataclasses import dataclass

_KEY = b"MDEyMzQ1Njc4OWFiY2RlZg=="
_TEXT, _CLOSE = 1, 8
_SMALL_FRAME = 126

ABNORMAL = 1006
SERVED = "served"


class LostError(Exception):
    """The client was lost; the text says how."""


@dataclass(frozen=True)
class Want:
    """What a client comes for.

    Attributes:
        path: Where it goes.
        messages: How many it sends, at once.
        answers: How many it then waits for.
        delay_seconds: How long it waits with its messages once it is in.
        back_seconds: When it comes back if it is refused; `None`: when `Retry-After` says.
        own_seconds: Up to so much it adds to that, at random.
    """

    path: str
    messages: int = 1
    answers: int = 1
    delay_seconds: float = 0.0
    back_seconds: float | None = None
    own_seconds: float = 0.0


async def websocket(port: int, want: Want) -> str:
    """Come back until served; return what became of it."""
    return await _until_served(_websocket, port, want)


async def get(port: int, want: Want) -> str:
    """The same for a request without a body."""
    return await _until_served(_get, port, want)


async def post(port: int, want: Want) -> str:
    """The same for one with a body in chunks."""
    return await _until_served(_post, port, want)


class _Refused(Exception):  # it is no error
    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after


async def _until_served(visit, port: int, want: Want) -> str:  # type: ignore[no-untyped-def]  # noqa: ANN001  one of three below
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError as error:
            return f"connect: {type(error).__name__}"
        try:
            await visit(reader, writer, want)
        except _Refused as refused:
            back = refused.retry_after if want.back_seconds is None else want.back_seconds
            await asyncio.sleep(back + want.own_seconds * random.random())
        except LostError as error:
            return str(error)
        except (asyncio.IncompleteReadError, OSError):
            return str(ABNORMAL)
        else:
            return SERVED
        finally:
            writer.transport.abort()


async def _head(reader: asyncio.StreamReader, expected: int) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(None, 2)[1])
    if status == 503:
        after = re.search(rb"retry-after: *(\d+)", head, re.IGNORECASE)
        raise _Refused(float(after[1]) if after else 1.0)
    if status != expected:
        raise LostError(f"HTTP {status}")


async def _websocket(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, want: Want
) -> None:
    writer.write(
        b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n" % (want.path.encode(), _KEY)
    )
    await _head(reader, 101)
    if want.delay_seconds:
        await asyncio.sleep(want.delay_seconds)
    for number in range(want.messages):
        text = str(number).encode()
        writer.write(struct.pack("!BBI", 0x81, 0x80 | len(text), 0) + text)
    answers = 0
    while answers < want.answers:
        first, size = await reader.readexactly(2)
        if size >= _SMALL_FRAME:
            raise LostError("a frame of no answer")
        payload = await reader.readexactly(size)
        if first & 0xF == _CLOSE:
            code = struct.unpack("!H", payload[:2])[0] if size >= 2 else 1005
            raise LostError(str(code))
        answers += first & 0xF == _TEXT


async def _get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, want: Want) -> None:
    writer.write(b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % want.path.encode())
    await _head(reader, 200)
    await reader.readuntil(b"answer")


async def _post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, want: Want) -> None:
    writer.write(
        b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 20\r\n\r\n" % want.path.encode()
    )
    writer.write(b"0123456789")
    await asyncio.sleep(want.delay_seconds)
    writer.write(b"0123456789")
    await _head(reader, 200)
    await reader.readuntil(b"answer")
