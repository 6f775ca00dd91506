"""Text from outside, made fit for a log line, a page, a span and a terminal.

Whatever the application, a server or the environment says is cleaned once, where it enters; all
that is behind may show it as it is. What comes from another process is cleaned where it is shown.
"""

MOST_CHARACTERS = 500
"""The longest reason. The longest of the library's own has some 300 characters."""

MOST_NAME_CHARACTERS = 100
"""The longest name of a condition, and of a type of failure."""


def one_line(text: str, most: int = MOST_CHARACTERS) -> str:
    r"""Text as one printable line of bounded length, which can be encoded in UTF-8.

    White space becomes single spaces. Everything else that is not printable becomes its escape:
    control characters (`\x1b`), lone surrogates (`\udcff`), and what turns the direction of text or
    cannot be seen (`\u202e`). Cleaning what is clean changes nothing.
    """
    if len(text) <= most and text.isprintable():
        return text
    text = " ".join(text[: 2 * most].split())  # cut first: it may have any length
    text = "".join(map(_escaped, text[: most + 1]))
    return text if len(text) <= most else text[: most - 3] + "..."


def bracketed(host: str) -> str:
    """A host as it stands before a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def reason_of(value: object, most: int = MOST_CHARACTERS) -> str:
    """A reason as it is kept, whatever was given for it. Never raises.

    `None` gives no reason. Of an exception, or any other object, only the type is shown: its text
    may hold anything, such as a URL with a password.
    """
    try:
        match value:
            case None:
                text = ""
            case str():
                text = value[: 2 * most]
            case bytes() | bytearray():
                text = value[: 2 * most].decode("utf-8", "backslashreplace")
            case int() | float():
                text = str(value)
            case _:
                text = type(value).__name__
        return one_line(str(text), most)
    except Exception:  # a class of the application's that raises in whatever it is asked
        return one_line(type(value).__name__, most)


_QUOTES = "\"'`"


def mistake_in(text: str, otherwise: str) -> str:
    """What to say of text that cannot be used: what an env file or a shell left of it, if so.

    Args:
        text: What was given. Nothing of it is shown, since it may hold a secret.
        otherwise: What to say if it looks whole.
    """
    if not text.strip():
        return "is empty: is the variable that it comes from set?"
    if text.strip()[0] in _QUOTES or text.strip()[-1] in _QUOTES:
        return "has quotes around it, as some readers of env files leave them: take them out"
    if text != text.strip():
        return "has spaces or a line end around it: take them out"
    if "${" in text or "$(" in text or "{{" in text:
        return "has a place that was to be filled in, such as ${...}, and was not"
    return otherwise
