"""What is said from outside becomes one printable line of bounded length, whatever it is."""

import enum
from pathlib import Path

import pytest

from orchestrator import Failure, FailureKind, ProbeResult, Target
from orchestrator._hardening.text import MOST_CHARACTERS, one_line, reason_of


class Colour(enum.StrEnum):
    RED = "is red"


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("S3cret")


class Treacherous(str):
    """A `str` whose methods raise."""

    __slots__ = ()

    def isprintable(self) -> bool:
        raise RuntimeError("S3cret")

    def __getitem__(self, _: object) -> str:
        raise RuntimeError("S3cret")


ESCAPED = {
    "as it is": ("as it is", "as it is"),
    "other alphabets": ("größer, 更大, أكبر", "größer, 更大, أكبر"),
    "a new line": ("one\ntwo\r\nthree", "one two three"),
    "every line break there is": ("a\x0bb\x0cc\x85d\u2028e\u2029f", "a b c d e f"),
    "tabs and wide spaces": ("a\tb\xa0c\u3000d", "a b c d"),
    "an escape sequence": ("\x1b[2Jred", r"\x1b[2Jred"),
    "the clipboard": ("\x1b]52;c;ZXZpbA==\x07", r"\x1b]52;c;ZXZpbA==\x07"),
    "C1, the other way to begin one": ("\x9b31m", r"\x9b31m"),
    "backspace and delete": ("a\x08b\x7f", r"a\x08b\x7f"),
    "NUL": ("a\0b", r"a\x00b"),
    "a turn of direction": ("a\u202eb\u2066c\u200f", r"a\u202eb\u2066c\u200f"),
    "what cannot be seen": ("a\u200bb\ufeffc\u00ad", r"a\u200bb\ufeffc\xad"),
    "tags, which spell hidden text": ("a\U000e0041", r"a\U000e0041"),
    "a bad byte of a file's name": ("cannot open \udcff.db", r"cannot open \udcff.db"),
    "a lone high surrogate": ("\ud83d", r"\ud83d"),
    "private use": ("\ue000", r"\ue000"),
}


@pytest.mark.parametrize(("text", "shown"), ESCAPED.values(), ids=ESCAPED)
def test_text_becomes_one_printable_line(text: str, shown: str) -> None:
    assert one_line(text) == shown
    assert one_line(shown) == shown, "cleaning twice changes nothing"


@pytest.mark.parametrize("text", ["x" * 10_000_000, "\n" * 10_000_000, "\x1b" * 10_000, "é " * 900])
def test_text_of_any_length_is_bounded(text: str) -> None:
    assert len(one_line(text)) <= MOST_CHARACTERS
    assert one_line(text, 40) == one_line(one_line(text), 40)
    assert one_line("y" * 501).endswith("y...")
    assert one_line("y" * 500) == "y" * 500


REASONS = {
    "none": (None, ""),
    "a number": (5, "5"),
    "a fraction": (0.5, "0.5"),
    "a truth": (False, "False"),
    "a member of an enumeration": (Colour.RED, "is red"),
    "bytes": (b"no \xff such\n file", r"no \xff such file"),
    "a bytearray": (bytearray(b"x" * 9_000_000), "x" * 497 + "..."),
    "an exception": (ValueError("redis://:S3cret@host"), "ValueError"),
    "the class of an exception": (KeyError, "type"),
    "an object that may hold anything": (Path("/S3cret"), "PosixPath"),
    "an object that cannot be shown": (Unspeakable(), "Unspeakable"),
    "a str that raises": (Treacherous("S3cret"), "Treacherous"),
    "a number of too many digits": (10**5000, "int"),
    "a list": (["S3cret"], "list"),
}


@pytest.mark.parametrize(("value", "kept"), REASONS.values(), ids=REASONS)
def test_whatever_is_given_for_a_reason_gives_one(value: object, kept: str) -> None:
    assert reason_of(value) == kept


def test_a_class_of_any_name_gives_a_line() -> None:
    named = type("Two\nlines\x1b", (Exception,), {})
    assert reason_of(named()) == r"Two lines\x1b"


def test_the_failure_of_a_probe_is_cleaned_as_it_enters() -> None:
    failure = Failure(FailureKind.PERMANENT, "T\x1bo" * 100, "a\nb\udcff" + "x" * 1_000_000)
    cleaned = ProbeResult(0.1, failure).failure
    assert cleaned is not None
    assert cleaned.reason.startswith(r"a b\udcff")
    assert len(cleaned.reason) == MOST_CHARACTERS
    assert cleaned.error_type.startswith(r"T\x1bo")
    assert len(cleaned.error_type) == 100
    assert cleaned.kind is FailureKind.PERMANENT


def test_the_target_of_a_probe_is_cleaned_as_it_enters() -> None:
    target = Target(system="\x1b", address="a\nb" * 1000, namespace="\udcff")
    assert (target.system, target.namespace) == (r"\x1b", r"\udcff")
    assert target.address.startswith("a ba b")
    assert len(target.address) == 255
