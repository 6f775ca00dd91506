"""SCRAM by the example of RFC 7677, section 3, and with servers that only claim to know it."""

import secrets

import pytest

from orchestrator.checks._scram import Scram, ScramError

NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = NONCE + "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SERVER_FIRST = f"r={SERVER_NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


@pytest.fixture
def scram(monkeypatch: pytest.MonkeyPatch) -> Scram:
    monkeypatch.setattr(secrets, "token_urlsafe", lambda _: NONCE)
    return Scram("sha256", "user", "pencil")


def test_the_example_of_the_standard(scram: Scram) -> None:
    assert scram.first() == b"n,,n=user,r=" + NONCE.encode()
    assert scram.final(SERVER_FIRST.encode()) == (
        f"c=biws,r={SERVER_NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=".encode()
    )
    scram.verify(SERVER_FINAL)


@pytest.mark.parametrize(
    "said",
    [
        SERVER_FIRST.replace(NONCE, "x"),
        SERVER_FIRST.replace("i=4096", "i=0"),
        SERVER_FIRST.replace("i=4096", "i=1000000000"),
        SERVER_FIRST.replace("i=4096", "i=many"),
        SERVER_FIRST.replace("s=W22Z", "s=!!!!"),
        SERVER_FIRST.replace(",i=4096", ""),
        "e=unknown-user",
        "",
    ],
)
def test_a_first_message_that_is_no_answer_is_refused(scram: Scram, said: str) -> None:
    with pytest.raises(ScramError):
        scram.final(said.encode())


@pytest.mark.parametrize(
    "said", [SERVER_FINAL.replace(b"6", b"7"), b"e=other", b"v=", b"\xff", b""]
)
def test_a_server_that_does_not_know_the_password_is_refused(scram: Scram, said: bytes) -> None:
    with pytest.raises(ScramError):
        scram.verify(SERVER_FINAL)  # before it could know anything
    scram.final(SERVER_FIRST.encode())
    with pytest.raises(ScramError):
        scram.verify(said)
