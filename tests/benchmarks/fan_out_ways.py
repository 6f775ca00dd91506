"""Ways to tell a crowd of subscribers one thing: ours, the event loops' own, and other libraries'.

Each way lets every subscriber run its own code once for each event. Where a library calls functions
instead of resuming tasks that wait, its name says so.
"""

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar  # Any: other libraries are there only with the extra `bench`

import anyio
import trio
from anyio.abc import TaskGroup

from orchestrator._core.feed import Feed
from states import Stage, StageChanged, TimerFired


@dataclass(slots=True)
class Crowd:
    """Who is to be told; `done` is set when all were."""

    size: int
    told: int = 0
    over: bool = False
    done: anyio.Event = field(default_factory=anyio.Event)

    def tell(self, _who: int) -> None:
        """One was told."""
        self.told += 1
        if self.told == self.size:
            self.done.set()


class Way:
    """How they are told. The default is made for libraries that call functions."""

    name: ClassVar[str]

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd

    async def start(self, tasks: TaskGroup) -> None:
        """Let all subscribers wait."""
        for who in range(self.crowd.size):
            tasks.start_soon(self.subscriber, who)

    async def subscriber(self, who: int) -> None:
        """Take events until the last."""
        while not self.crowd.over:
            await self.take(who)
            self.crowd.tell(who)

    async def take(self, who: int) -> None:
        """Wait for the next event."""
        raise NotImplementedError

    def prepare(self) -> None:
        """What is not part of telling, such as making the event."""

    async def fire(self) -> None:
        """Tell all; they may run later."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Nobody waits any longer."""


class Ours(Way):
    name = "ours"

    def __init__(self, crowd: Crowd) -> None:
        super().__init__(crowd)
        self._feed = Feed()
        self._number = 0

    async def start(self, tasks: TaskGroup) -> None:
        tasks.start_soon(self._feed.deliver)
        await super().start(tasks)

    async def subscriber(self, who: int) -> None:
        async for _ in self._feed.subscribe():
            self.crowd.tell(who)
            if self.crowd.over:
                return

    def prepare(self) -> None:
        self._number += 1
        self._event = StageChanged(
            self._number, Stage.GRACE, Stage.READY, TimerFired(0.0), 0.0, 0.0
        )

    async def fire(self) -> None:
        self._feed.publish(self._event)

    async def stop(self) -> None:
        self._feed.close()


class Event(Way):
    """One event object of the event loop, and a new one for the next time."""

    make: Callable[[], Any]

    def __init__(self, crowd: Crowd) -> None:
        super().__init__(crowd)
        self._event = self._next = type(self).make()

    def prepare(self) -> None:
        self._next = type(self).make()

    async def take(self, _who: int) -> None:
        await self._event.wait()

    async def fire(self) -> None:
        event, self._event = self._event, self._next
        event.set()


class AsyncioEvent(Event):
    name, make = "asyncio.Event", asyncio.Event


class TrioEvent(Event):
    name, make = "trio.Event", trio.Event


class AsyncioQueue(Way):
    name = "asyncio.Queue each"

    def __init__(self, crowd: Crowd) -> None:
        super().__init__(crowd)
        self._queues = [asyncio.Queue[int]() for _ in range(crowd.size)]

    async def take(self, who: int) -> None:
        await self._queues[who].get()

    async def fire(self) -> None:
        for queue in self._queues:
            queue.put_nowait(1)


class MemoryStream(Way):
    name = "anyio memory object stream each"

    def __init__(self, crowd: Crowd) -> None:
        super().__init__(crowd)
        self._streams = [anyio.create_memory_object_stream[int](8) for _ in range(crowd.size)]

    async def take(self, who: int) -> None:
        await self._streams[who][1].receive()

    async def fire(self) -> None:
        for send, _ in self._streams:
            send.send_nowait(1)

    async def stop(self) -> None:
        for send, receive in self._streams:
            send.close()
            receive.close()


class Called(Way):
    """For libraries that call functions."""

    package: ClassVar[str]

    def __init__(self, crowd: Crowd) -> None:
        super().__init__(crowd)
        self.library: Any = importlib.import_module(self.package)

    def callback(self, who: int) -> Callable[..., Awaitable[None]]:
        async def call(*_: object, **__: object) -> None:
            self.crowd.tell(who)

        return call


class Pyee(Called):
    name, package = "pyee (calls)", "pyee.asyncio"

    async def start(self, _tasks: TaskGroup) -> None:
        self._emitter = self.library.AsyncIOEventEmitter()
        for who in range(self.crowd.size):
            self._emitter.on("event", self.callback(who))

    async def fire(self) -> None:
        self._emitter.emit("event", 1)


class Blinker(Called):
    name, package = "blinker (calls)", "blinker"

    async def start(self, _tasks: TaskGroup) -> None:
        self._signal = self.library.Signal()
        for who in range(self.crowd.size):
            self._signal.connect(self.callback(who), weak=False)

    async def fire(self) -> None:
        await self._signal.send_async(None)


class Aiosignal(Called):
    name, package = "aiosignal (calls)", "aiosignal"

    async def start(self, _tasks: TaskGroup) -> None:
        self._signal = self.library.Signal(None)
        self._signal.extend(self.callback(who) for who in range(self.crowd.size))
        self._signal.freeze()

    async def fire(self) -> None:
        await self._signal.send(1)


class Broadcaster(Called):
    name, package = "broadcaster", "broadcaster"

    async def start(self, tasks: TaskGroup) -> None:
        self._broadcast = self.library.Broadcast("memory://")
        await self._broadcast.connect()
        await super().start(tasks)

    async def subscriber(self, who: int) -> None:
        async with self._broadcast.subscribe("event") as events:
            async for _ in events:
                self.crowd.tell(who)
                if self.crowd.over:
                    return

    async def fire(self) -> None:
        await self._broadcast.publish("event", "1")

    async def stop(self) -> None:
        await self._broadcast.disconnect()


class Aiopubsub(Called):
    name, package = "aiopubsub", "aiopubsub"

    async def start(self, tasks: TaskGroup) -> None:
        hub, key = self.library.Hub(), self.library.Key("event")
        self._publisher = self.library.Publisher(hub, prefix=self.library.Key("bench"))
        self._key = key
        self._subscribers = [
            self.library.Subscriber(hub, str(who)) for who in range(self.crowd.size)
        ]
        for subscriber in self._subscribers:
            subscriber.subscribe(self.library.Key("bench", "event"))
        await super().start(tasks)

    async def take(self, who: int) -> None:
        await self._subscribers[who].consume()

    async def fire(self) -> None:
        self._publisher.publish(self._key, 1)

    async def stop(self) -> None:
        for subscriber in self._subscribers:
            await subscriber.remove_all_listeners()


EVENTS: dict[str, type[Way]] = {"asyncio": AsyncioEvent, "trio": TrioEvent}
"""The event object of each event loop."""

PEERS: dict[str, tuple[type[Way], ...]] = {
    "asyncio": (AsyncioQueue, MemoryStream, Pyee, Blinker, Aiosignal, Broadcaster, Aiopubsub),
    "trio": (MemoryStream,),
}


def installed(ways: tuple[type[Way], ...]) -> list[type[Way]]:
    """Those whose library is there; says of the others that they are left out."""
    there = []
    for way in ways:
        try:
            if issubclass(way, Called):
                importlib.import_module(way.package)
        except ImportError as error:
            print(f"{way.name} is left out: {error}", file=sys.stderr)  # a benchmark prints
        else:
            there.append(way)
    return there
