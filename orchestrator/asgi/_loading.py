"""Loading an application while its clients are held: its import, then its lifespan.

Both are steps, each a condition of the orchestrator. What is done and what is said of it are apart,
since the orchestrator ends what keeps a condition when it likes, and a lifespan is the server's:

- A companion of the start-up imports the application, once in a process, in a daemon thread, so
  that an import that hangs holds up no end; or on the event loop, for one that needs it.
- The server's own lifespan task runs that of the application (`_deferred.py`). Where no server asks
  for one, as for a mounted application, there is none, and that step is done with the import.
- Two keepers look at what these two have done, and say it.

All of it happens on the event loop, but for the import in a thread, which only leaves its result.
"""

import contextlib
import sys
import threading
from collections.abc import Awaitable, Callable
from enum import Enum
from types import FrameType

import anyio
import anyio.lowlevel

from orchestrator._core.feed import Subscription
from orchestrator._core.keeping import Kept, KeptCondition
from orchestrator._http.asgi_types import ASGIApp
from orchestrator._runtime.event_loop import EventLoop
from orchestrator.asgi._import_string import ImportString

_BIND_SECONDS = 0.05
_BIND_TURNS = 20
"""How long an import waits for the server to open its port, which no event tells: so long, and then
so many turns of the event loop, for a machine that is busy. Once it runs, an import may keep the
interpreter to itself for seconds, in a thread too, as some extensions do."""

IMPORT, LIFESPAN = "import", "lifespan"


class Started(Enum):
    """How far the application's lifespan is."""

    NOT_ASKED = "no server has asked for it"
    ASKED = "it is starting"
    UP = "it has started, or there is none"
    DOWN = "it has started, and does not hold any more"


class Loading:
    """What is loaded, and how far that is.

    Args:
        where: Where the application is.
        on_loop: Whether it is imported on the event loop.

    Attributes:
        app: The application, once it is imported.
        error: What the import raised.
        lifespan: How far its lifespan is.
        seconds: For how long it has been loaded in this start-up.
        fell: Why the lifespan does not hold any more.
        failed: Called on the event loop when the import has failed.
    """

    def __init__(self, where: ImportString, *, on_loop: bool) -> None:
        self.where: ImportString = where
        self.app: ASGIApp | None = None
        self.error: BaseException | None = None
        self.lifespan: Started = Started.NOT_ASKED
        self.seconds: Callable[[], float] = float
        self.fell: str = ""
        self.failed: Callable[[], Awaitable[object]]
        self._on_loop = on_loop
        self._thread: threading.Thread | None = None
        self._changed: anyio.Event | None = None

    @property
    def imported(self) -> bool:
        """Whether the import has ended, in one way or the other."""
        return self.app is not None or self.error is not None

    @property
    def complete(self) -> bool:
        """Whether the application can take requests."""
        return self.app is not None and self.lifespan is not Started.ASKED

    def conditions(self) -> tuple[KeptCondition, KeptCondition]:
        """The two steps, for an orchestrator."""
        return _LoadingStep(IMPORT, self), _LoadingStep(LIFESPAN, self, after=[IMPORT])

    def lifespan_is(self, started: Started, fell: str = "") -> None:
        """Say how far the application's lifespan is, and why it does not hold any more."""
        self.lifespan, self.fell = started, fell
        self._wake()

    async def changed(self) -> None:
        """Return when any of it has changed."""
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    # -- the import --------------------------------------------------------------------------------

    async def run(self, events: Subscription) -> None:
        """Import the application; a companion of the start-up."""
        if self.imported:
            return
        await anyio.sleep(_BIND_SECONDS)
        for _ in range(_BIND_TURNS):
            await anyio.lowlevel.checkpoint()
        if self._on_loop:
            self._load()
        else:
            await self._load_beside()
        self._wake()
        if self.error is not None:
            await self.failed()

    async def _load_beside(self) -> None:
        loop, done = EventLoop(), anyio.Event()

        def load(earlier: threading.Thread | None) -> None:
            if earlier is not None:  # of an earlier start-up, which ended before it did
                earlier.join()
            if not self.imported:
                self._load()
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call(done.set)

        name = f"import {self.where.module}"
        thread = threading.Thread(target=load, args=[self._thread], name=name, daemon=True)
        self._thread = thread
        thread.start()
        await done.wait()

    def _load(self) -> None:
        try:
            self.app = self.where.load()
        except BaseException as error:  # also `sys.exit`: it is the process that ends, not a thread
            self.error = error

    # -- in words ----------------------------------------------------------------------------------

    def says(self, step: str) -> tuple[bool, str]:
        """Whether a step is done, and why not."""
        if step == IMPORT:
            error = self.error
            said = f"its import failed with {type(error).__name__}" if error else self.doing(step)
            return self.app is not None, "" if self.app is not None else said
        if self.lifespan is Started.DOWN:
            return False, self.fell
        done = self.lifespan is not Started.ASKED
        return done, "" if done else self.doing(step)

    def doing(self, step: str) -> str:
        """What is being done, for people."""
        module = self.where.module
        return f"importing {module}" if step == IMPORT else f"starting the lifespan of {module}"

    def at(self) -> str:
        """Which module the import is in now, where that is known; from any thread."""
        thread = self._thread
        if thread is None or thread.ident is None or self.imported:
            return ""
        frame: FrameType | None = sys._current_frames().get(thread.ident)  # noqa: SLF001  documented
        while frame is not None and frame.f_code.co_name != "<module>":
            frame = frame.f_back
        name = "" if frame is None else frame.f_globals.get("__name__", "")
        return "" if name in ("", self.where.module) else f", now in {name}"


class _LoadingStep(KeptCondition):
    """One of the two conditions."""

    loading: Loading

    def __init__(
        self, name: str, loading: Loading, after: tuple[str, ...] | list[str] = ()
    ) -> None:
        super().__init__(name, after=after)
        object.__setattr__(self, "loading", loading)
        object.__setattr__(self, "loads", loading.doing(name))

    async def keep(self, kept: Kept) -> None:
        """Say what the loading has come to, until cancelled."""
        began_at, loading = kept.clock.now(), self.loading
        if self.name == IMPORT:
            loading.seconds = lambda: kept.clock.now() - began_at

        def words(now: float, in_full: bool) -> str:
            done, reason = loading.says(self.name)
            if done or reason != loading.doing(self.name):
                return reason
            where = loading.at() if in_full and self.name == IMPORT else ""
            return f"{reason}, {now - began_at:.1f} s so far{where}"

        kept.words = words
        while True:
            kept.loaded = loading.complete if self.name == LIFESPAN else loading.app is not None
            kept.set(*loading.says(self.name))
            await loading.changed()
