"""What can go wrong when the machine or its policy is used."""


class IllegalFact(ValueError):  # the field's term for it is a fact, not an error
    """A fact that cannot be true in the current stage. The machine has not changed."""


class PolicyError(ValueError):
    """A policy that cannot work. The text names the field, its value and what is allowed.

    A value that is no number is not shown: it may be something else, and a secret.

    Attributes:
        field: The name of the field of `Policy` that is wrong.
        value: The value that it was given.
        allowed: What it may be.
    """

    def __init__(self, field: str, value: object, allowed: str) -> None:
        shown = repr(value) if isinstance(value, int | float) else f"a {type(value).__name__}"
        super().__init__(f"Policy.{field} is {shown}; it must be {allowed}")
        self.field = field
        self.value = value
        self.allowed = allowed
