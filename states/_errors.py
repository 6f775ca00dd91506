"""What can go wrong when the machine or its policy is used."""


class IllegalFact(ValueError):  # noqa: N818  the field's term for it is a fact, not an error
    """A fact that cannot be true in the current stage. The machine has not changed."""


class PolicyError(ValueError):
    """A policy that cannot work. The text names the field, its value and what is allowed.

    Attributes:
        field: The name of the field of `Policy` that is wrong.
        value: The value that it was given.
        allowed: What it may be.
    """

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"Policy.{field} is {value!r}; it must be {allowed}")
        self.field = field
        self.value = value
        self.allowed = allowed
