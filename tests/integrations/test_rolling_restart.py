"""A rolling restart of real instances behind a real nginx, with clients that come back."""

from pathlib import Path

import pytest

from tests.integrations.rolling_restart import REQUESTS_PER_SECOND, Rehearsal
from tests.integrations.test_proxies import program

pytestmark = [pytest.mark.long, pytest.mark.anyio]

CLIENTS, SECONDS = 100, 35.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the clients run on nothing else


async def test_in_a_rolling_restart_no_request_fails_and_no_websocket_is_cut_off(
    tmp_path: Path,
) -> None:
    run = Rehearsal(tmp_path, program("nginx"), gate=True)
    seen = await run.run(CLIENTS, SECONDS)
    assert seen.answers == {"200": SECONDS * REQUESTS_PER_SECOND}
    assert set(seen.closes) == {1012}
    assert seen.closes[1012] >= CLIENTS, "both instances were restarted"
    # They go one by one over 5 s. A server alone closes all that it has at one moment.
    assert seen.most_closed_within(1.0) <= CLIENTS / 2
