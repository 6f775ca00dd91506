"""The part `herd`: everybody comes back, and what the server can do stands beside it."""

import math

import pytest

from tests.benchmarks import part_herd
from tests.certificates import HAVE_OPENSSL

pytestmark = pytest.mark.long


@pytest.mark.skipif(not HAVE_OPENSSL, reason="needs openssl for certificates")
def test_everybody_comes_back_and_what_the_server_can_do_is_beside_it() -> None:
    try:
        rows = list(part_herd.measure(rounds=1, count=20, bits=2048))
    except RuntimeError:
        pytest.skip("this redis-server has no TLS")
    assert len(rows) == 2
    for row in rows:
        assert row.floor is not None
        assert 0 < row.floor.median < math.inf
        assert 0 < row.ours.median < math.inf, "nobody is missing"
