"""What a reader of a fleet is given: its instances, and the news of them."""

from dataclasses import dataclass
from typing import TypeAlias

from orchestrator.fleet._presence import PresenceVerdict
from orchestrator.fleet._wire import FleetEntry, FleetState
from states import Stage


@dataclass(frozen=True, slots=True)
class Instance:
    """One start-up of one instance, as this reader knows it.

    Attributes:
        state: What it last said of itself.
        presence: Whether it is there.
        presence_since: Since when it has been so, in Unix seconds of this reader's clock.
    """

    state: FleetState
    presence: PresenceVerdict = PresenceVerdict.UNKNOWN
    presence_since: float = 0.0

    @property
    def incarnation(self) -> str:
        """The name of this start-up, which no other has."""
        return self.state.entry.incarnation

    @property
    def name(self) -> str:
        """What the instance is called, such as its host name; others may be called so, too."""
        return self.state.entry.instance

    @property
    def version(self) -> str:
        """What it runs."""
        return self.state.entry.version

    @property
    def stage(self) -> Stage:
        """Its last known stage."""
        return self.state.entry.current

    @property
    def since(self) -> float:
        """Since when it has been in its stage, in Unix seconds of its own clock."""
        return self.state.entry.at

    @property
    def is_ready(self) -> bool:
        """Whether it is known to be ready, alive and not draining, with no later change."""
        alive = self.presence is PresenceVerdict.ALIVE and not self.state.untold
        return alive and self.stage is Stage.READY and not self.state.draining


@dataclass(frozen=True, slots=True)
class Change:
    """An instance went from one stage to another.

    Attributes:
        instance: The instance; its state may be newer than the change.
        changed: The change: sequence, stages, cause in words.
        place: Its id in Redis' stream, the same for every reader; empty if the stream had lost it
            and its state told it.
        again: Whether it may have been delivered before, to this or another member of the group.
    """

    instance: Instance
    changed: FleetEntry
    place: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True)
class Presence:
    """There is a new verdict on an instance.

    Attributes:
        instance: The instance.
        presence: The verdict. `unknown` is never news of one instance; see `Contact`.
    """

    instance: Instance
    presence: PresenceVerdict


@dataclass(frozen=True, slots=True)
class Missed:
    """Changes of an instance can't be delivered any more. Its state is right again.

    Attributes:
        instance: The instance.
        count: Exactly how many.
    """

    instance: Instance
    count: int


@dataclass(frozen=True, slots=True)
class SilentTogether:
    """Most of the fleet went silent within one lease: is the way to Redis broken?

    Attributes:
        instances: Those that went silent.
        of: How many instances were there before, those among them.
    """

    instances: tuple[Instance, ...]
    of: int

    def __str__(self) -> str:
        return f"{len(self.instances)} of {self.of} went silent together: the way to Redis?"


@dataclass(frozen=True, slots=True)
class Contact:
    """This reader lost Redis, or reached it again.

    Attributes:
        reached: Whether Redis answers. If not, every instance that has not left is `unknown`.
        reason: Why not; empty if it does.
    """

    reached: bool
    reason: str = ""


FleetNews: TypeAlias = Change | Presence | Missed | SilentTogether | Contact
"""What iterating over a fleet gives."""
