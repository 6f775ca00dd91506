"""What can be read of an orchestrator, at any time and in any thread."""

from collections.abc import Collection, Mapping

from orchestrator._core.account import NOTHING_YET, Account
from orchestrator._core.explanation import Explanation
from orchestrator._core.keeping import KeptCondition, order_of
from orchestrator._core.life import Life
from orchestrator._core.wait_for import explain_now
from states import Snapshot, Stage, StageChanged, StartupMachine

_READY = Stage.READY  # gates look it up for every request


class ReadableState:
    """The state of an orchestrator, read only; `Orchestrator` itself changes it.

    Attributes:
        enabled: False where nothing is probed, and the service is ready at once.
        life_number: How often it was entered.
        optional: The names of the conditions that were declared with `required=False`.
    """

    enabled: bool
    life_number: int
    optional: frozenset[str]
    _machine: StartupMachine
    _life: Life | None
    _kept: Mapping[str, KeptCondition]

    @property
    def stage(self) -> Stage:
        """The current stage; `booting` until the orchestrator is entered."""
        return self._machine.stage

    @property
    def latest(self) -> StageChanged | None:
        """The last change of stage; `None` before the first."""
        return None if self._life is None else self._life.feed.latest

    @property
    def running(self) -> bool:
        """Whether the orchestrator is entered now."""
        return self._life is not None and self._life.running

    @property
    def never_ran_here(self) -> bool:
        """Whether it was never entered, or only on an event loop that is gone."""
        return self._life is None or self._life.loop.ended

    @property
    def ended(self) -> str | None:
        """Why the orchestrator has ended. It was stopped or left, or its driver failed.

        It is neither live nor ready then, and gates refuse new requests. `None` before, and always
        where it is disabled.
        """
        life = self._life
        return life.ended if life is not None and self.enabled else None

    @property
    def ready(self) -> bool:
        """Whether the stage is `ready`, and neither the end nor a drain refuses clients."""
        if self._machine.stage is not _READY:
            return False
        life = self._life  # there is none where a test pretends the stage
        if life is None or not self.enabled:
            return True
        return life.driver.ended is None and not (life.drain.refuses or life.loop.is_closed())

    @property
    def ready_without_drain(self) -> bool:
        """Whether it is `ready`, and no drain has begun."""
        if self._machine.stage is not _READY:
            return False
        life = self._life
        if life is None or not self.enabled:
            return True
        drain = life.drain
        return (
            drain.began_at is None
            and life.driver.ended is None
            and not (drain.refuses or life.loop.is_closed())
        )

    @property
    def needs_restart(self) -> str | None:
        """Why only a restart of the process helps, as a required task is down for good; or `None`.

        The service is neither live nor ready then, so that the platform restarts it.
        """
        return None if self._life is None else self._life.keeping.needs_restart

    @property
    def down_for_good(self) -> Collection[str]:
        """The names of the required conditions that will not hold again in this process."""
        return () if self._life is None else tuple(self._life.keeping.down_for_good)

    @property
    def loading(self) -> str | None:
        """What of an application behind `deferred` is being loaded, and for how long.

        `None` once all of it is, and where nothing is loaded that way. The start-up is not complete
        before, whatever the stage.
        """
        life = self._life
        return None if life is None or life.over else life.keeping.loading(life.now())

    @property
    def was_ready(self) -> bool:
        """Whether the service has been ready since the orchestrator was last entered."""
        return self._machine.was_ready

    @property
    def snapshot(self) -> Snapshot:
        """All that the machine knows, as data. `explain` says it in words."""
        return self._machine.snapshot

    def explain(self) -> Explanation:
        """What the service waits for and why. Works at any time and in any thread. No secrets."""
        return explain_now(self._machine, self._life, self.ended, order_of(self._kept))

    def account(self) -> Account:
        """Where the start went: up to now, or up to the first ready, and final from then on.

        Works at any time and in any thread. Entered again, the orchestrator begins a new one.
        """
        life = self._life
        if life is None:
            return NOTHING_YET
        # Only a running one has a clock that can be read.
        return life.book.account(life.now() if life.running else self._machine.snapshot.last_at)
