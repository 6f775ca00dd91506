"""What a server may say in place of the replies of Redis: RESP, well made, odd and broken."""

from hypothesis import strategies as st

from tests.fuzz.subject import PLANTED

_CRLF = b"\r\n"

_numbers = st.one_of(
    st.integers(-2, 70),
    st.sampled_from([10**5, 1_500_000_000, 2**31, 2**63, 10**17, -(2**63), 10**400]),
).map(lambda number: b"%d" % number)

_words = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        [
            b"PONG",
            b"OK",
            b"master",
            b"slave",
            b"sentinel",
            b"cluster_state:ok\r\ncluster_size:3",
            b"cluster_state:fail",
            b"127.0.0.1",
            b"::1",
            b"6379",
            b"proto",
            PLANTED.encode(),
            b"\x1b]52;c;" + PLANTED.encode(),
            b"\xff\xfe",
        ]
    ),
)

_errors = st.builds(
    lambda code, rest: b"-" + code + b" " + rest.replace(b"\r", b"").replace(b"\n", b"") + _CRLF,
    st.sampled_from(
        b"ERR LOADING NOAUTH WRONGPASS NOPERM MOVED ASK MASTERDOWN READONLY OOM CLUSTERDOWN BUSY"
        b" MISCONF NOREPLICAS DENIED NOPROTO EXECABORT TRYAGAIN INVALIDOBJ NOSCRIPT".split()
    ),
    st.one_of(_words, st.just(b"1 " + PLANTED.encode() + b":6379"), st.just(b"a:b c")),
)


def _bulk(word: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(word), word)


_leaves = st.one_of(
    _words.map(_bulk),
    _words.map(lambda word: b"+" + word + _CRLF),
    _numbers.map(lambda number: b":" + number + _CRLF),
    _errors,
    st.sampled_from(
        [b"$-1\r\n", b"*-1\r\n", b"_\r\n", b"#t\r\n", b"#f\r\n", b"#x\r\n", b",nan\r\n"]
    ),
    _words.map(lambda word: b"=" + _bulk(b"txt:" + word)[1:]),
    _words.map(lambda word: b"!" + _bulk(b"ERR " + word)[1:]),
    _numbers.map(lambda number: b"(" + number + _CRLF),
    st.floats().map(lambda number: b",%b\r\n" % str(number).encode()),
    # A kind, a length or a number that is none, and whatever follows.
    st.builds(
        lambda kind, number, word: kind + number + _CRLF + word,
        st.sampled_from([bytes([kind]) for kind in b"+-:$*_#,(!=%~>|?"]),
        st.one_of(_numbers, _words),
        _words,
    ),
)


def _collection(kind: bytes, items: list[bytes]) -> bytes:
    length = len(items) // 2 if kind in b"%|" else len(items)
    return kind + b"%d\r\n" % length + b"".join(items)


values: st.SearchStrategy[bytes] = st.recursive(
    _leaves,
    lambda inner: st.builds(
        _collection, st.sampled_from([b"*", b"%", b"~", b">", b"|"]), st.lists(inner, max_size=4)
    ),
    max_leaves=12,
)

_PONG = b"+PONG\r\n"


def _cut(data: bytes, start: int, end: int) -> bytes:
    return data[:start] + data[end:]


_broken = st.builds(_cut, values, st.integers(0, 40), st.integers(0, 40))

endless: st.SearchStrategy[bytes] = st.sampled_from(
    [
        b"*1\r\n" * 50_000,
        b">1\r\n+x\r\n" * 20_000,
        b"%1\r\n" * 50_000,
        b"+" + b"a" * 400_000,
        b"-ERR " + b"a" * 400_000 + _CRLF,
        b"$400000\r\n" + b"a" * 400_002,
        b":" + b"9" * 100_000 + _CRLF,
        _PONG + b"*2\r\n" + _bulk(b"master") + _bulk(b"x" * 300_000),
        b"\n" * 100_000,
    ]
)

talks: st.SearchStrategy[bytes] = st.one_of(
    st.lists(values, min_size=1, max_size=4).map(b"".join),
    st.lists(values, max_size=3).map(lambda rest: _PONG + b"".join(rest)),
    _broken,
    st.binary(max_size=200),
    endless,
)
"""All that a server says on one connection."""


def _addresses(host: bytes, port: bytes) -> bytes:
    return b"*2\r\n" + host + port


sentinel_talks: st.SearchStrategy[bytes] = st.one_of(
    st.builds(_addresses, values, values),
    st.builds(
        lambda host, port: _addresses(_bulk(host), _bulk(port)),
        st.one_of(_words, st.text("abc.:%-\r\n \x1b\u202e", max_size=300).map(str.encode)),
        st.one_of(_numbers, st.text("0123456789-+_ ", max_size=8).map(str.encode)),
    ),
    talks,
)
