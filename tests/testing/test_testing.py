"""The test kit: scripts, assertions, pretence, and its documentation as it is."""

import os
import re
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from orchestrator import (
    AlreadyStarted,
    ConditionSpec,
    Failure,
    FailureKind,
    NotRunning,
    Orchestrator,
    Platform,
    Policy,
    ProbeResult,
    Stage,
)
from orchestrator.testing import (
    REFUSED,
    WORDS,
    WRONG_PASSWORD,
    ManualClock,
    ScriptedProbe,
    ScriptError,
    StageLog,
    pretend,
    virtual_startup,
)

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "testing.md"


def code_blocks(kind: str) -> list[str]:
    fence = re.compile(rf"^```{kind}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return fence.findall(PAGE.read_text(encoding="utf-8"))


async def answers(probe: ScriptedProbe, number: int) -> list[str]:
    """How so many attempts end: the word of each."""
    words = {failure: word for word, failure in WORDS.items()}
    return [words[(await probe.attempt(1.0)).failure] for _ in range(number)]


# -- scripts -------------------------------------------------------------------------------------


async def test_steps_are_taken_in_order_and_the_last_for_ever() -> None:
    probe = ScriptedProbe("refused x3, loading, ok x2, closed")
    expected = ["refused"] * 3 + ["loading", "ok", "ok", "closed", "closed", "closed"]
    assert await answers(probe, 9) == expected
    assert probe.attempts == 9


async def test_a_step_that_lasts_takes_as_many_attempts_as_fit() -> None:
    clock = ManualClock(50.0)
    probe = ScriptedProbe("refused, loading 5s, ok 200ms, crowded 1min, ok", clock=clock)
    assert await answers(probe, 3) == ["refused", "loading", "loading"]
    await clock.advance(4.9)
    assert await answers(probe, 1) == ["loading"]
    await clock.advance(0.1)
    assert await answers(probe, 1) == ["ok"]
    await clock.advance(0.2)
    assert await answers(probe, 1) == ["crowded"]
    await clock.advance(60)
    assert await answers(probe, 1) == ["ok"]


async def test_steps_that_nobody_asked_in_have_passed_all_the_same() -> None:
    clock = ManualClock()
    probe = ScriptedProbe("refused 1s, loading 1s, ok", clock=clock)
    assert await answers(probe, 1) == ["refused"]
    await clock.advance(2)
    assert await answers(probe, 1) == ["ok"]


async def test_a_stall_takes_all_the_time_of_an_attempt() -> None:
    run = virtual_startup("stall", policy=Policy(attempt_timeout_seconds=2.0))
    async with run.startup:
        await run.clock.advance(1.99)
        assert run.startup.explain().attempts == 0
        await run.clock.advance(0.01)
        assert run.startup.explain().attempts == 1
    assert run.stages.last_failure == WORDS["stall"]


async def test_the_end_of_an_ok_is_noticed_at_once() -> None:
    run = virtual_startup("ok 12s, refused", policy=Policy(probe_interval_seconds=5.0))
    async with run.startup:
        await run.clock.advance(13)
    assert 12.0 <= run.stages.seconds_until("degraded") < 12.5


async def test_single_answers_and_text_can_be_mixed() -> None:
    own = Failure(FailureKind.TRANSIENT, "Odd", "something odd")
    probe = ScriptedProbe(["refused x2", own, None])
    assert [(await probe.attempt(1)).failure for _ in range(5)] == [
        REFUSED,
        REFUSED,
        own,
        None,
        None,
    ]


async def test_a_new_script_is_noticed_even_if_it_comes_before_the_watch() -> None:
    probe = ScriptedProbe("refused")
    await probe.attempt(1)
    probe.then("ok")
    with anyio.fail_after(5):
        await probe.changed()
    assert await answers(probe, 1) == ["ok"]


@pytest.mark.parametrize(
    "script", ["", "fine", "ok x0", "ok 5", "ok x3 5s", "ok,,ok", "ok -1s", "refused 3 hours"]
)
async def test_a_script_that_cannot_be_read_says_what_can_be(script: str) -> None:
    with pytest.raises(ScriptError, match="write one of ok, refused, loading"):
        ScriptedProbe(script)


def test_every_word_is_documented() -> None:
    table = re.findall(r"^\| `([a-z-]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert table == list(WORDS)


# -- assertions ----------------------------------------------------------------------------------


async def a_failed_start() -> StageLog:
    run = virtual_startup("refused")
    async with run.startup:
        await run.clock.advance(31)
    return run.stages


async def test_what_went_as_expected_passes() -> None:
    log = await a_failed_start()
    log.assert_went("booting", "probing_redis", "degraded")
    log.assert_went(Stage.BOOTING, ..., Stage.DEGRADED)
    log.assert_went(...)
    log.assert_went(..., "probing_redis", ...)
    log.assert_went("booting", "probing_redis", ..., "degraded", ...)
    log.assert_never("ready", Stage.GRACE)
    assert log.seconds_until("degraded") == 30.0


async def test_the_text_of_a_failure_is_the_one_in_the_documentation() -> None:
    log = await a_failed_start()
    with pytest.raises(AssertionError) as failure:
        log.assert_went("booting", "probing_redis", "grace", "ready")
    (documented,) = code_blocks("text")

    def comparable(text: str) -> str:
        return re.sub(r"attempts: \d+", "attempts: N", text).strip()

    assert comparable(str(failure.value)) == comparable(documented)


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        (("booting",), "it went on to probing_redis"),
        (("booting", "probing_redis", "degraded", "grace"), "it ended in degraded, before grace"),
        (("booting", ..., "ready"), "expected: booting -> ... -> ready"),
        ((), "it went on to booting"),
    ],
)
async def test_a_failure_says_where_the_rows_part(
    expected: tuple[Stage | str, ...], said: str
) -> None:
    log = await a_failed_start()
    with pytest.raises(AssertionError, match=re.escape(said)):
        log.assert_went(*expected)


async def test_a_stage_that_never_should_be_is_told_with_its_time() -> None:
    log = await a_failed_start()
    with pytest.raises(AssertionError, match=r"the service was degraded[^$]*30\.000"):
        log.assert_never("degraded")
    with pytest.raises(AssertionError, match="never became ready"):
        log.seconds_until("ready")


ALL = "booting, probing_redis, grace, ready, degraded"


@pytest.mark.parametrize("ask", ["assert_went", "assert_never", "seconds_until"])
def test_a_stage_that_is_none_is_told_with_those_there_are(ask: str) -> None:
    with pytest.raises(ValueError, match=f"^there is no stage 'probing': it is one of {ALL}$"):
        getattr(StageLog(), ask)("probing")


async def test_the_same_script_runs_the_same_each_time() -> None:
    runs = [virtual_startup("refused 3s, ok") for _ in range(2)]
    for run in runs:
        async with run.startup:
            await run.clock.advance(10)
    first, second = (run.stages for run in runs)
    assert first.events == second.events
    assert first.attempts == second.attempts


# -- pretence ------------------------------------------------------------------------------------


class Unreachable(ScriptedProbe):
    """Stands for the probe of an application, which no test may use."""

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        raise AssertionError(f"the application's own Redis was asked ({timeout_seconds} s)")


def an_application() -> Orchestrator:
    policy = Policy.for_platform(Platform.CLOUD_RUN)
    conditions = [ConditionSpec("listener"), ConditionSpec("index", required=False)]
    return Orchestrator(Unreachable(), policy=policy, conditions=conditions)


async def test_an_application_believes_what_it_is_told() -> None:
    startup = an_application()
    pretence = pretend(startup, "probing_redis")
    async with startup:
        assert startup.stage is Stage.PROBING_REDIS
        for stage in (Stage.READY, Stage.DEGRADED) * 3:
            event = await pretence.become(stage)
            assert event.current is stage
            assert startup.explain().stage is stage


async def test_conditions_only_report_while_it_pretends() -> None:
    startup = an_application()
    pretend(startup)
    async with startup:
        await startup.wait_for(Stage.READY, timeout_seconds=5)
        startup.condition("listener").set(False, reason="there is no Redis in this test")
        await anyio.wait_all_tasks_blocked()
        known = startup.explain()
        assert known.stage is Stage.READY
        assert known.conditions["listener"].reason == "there is no Redis in this test"


async def test_what_was_replaced_is_given_back() -> None:
    startup = an_application()
    before = vars(startup).copy()
    pretence = pretend(startup, Stage.DEGRADED)
    assert startup.policy.grace_seconds == 0
    pretence.undo()
    assert vars(startup) == before


async def test_pretending_too_late_says_so() -> None:
    startup = Orchestrator(ScriptedProbe([WRONG_PASSWORD]))
    async with startup:
        with pytest.raises(AlreadyStarted, match="before the application is started"):
            pretend(startup)


async def test_only_stages_that_last_can_be_pretended() -> None:
    startup = an_application()
    for stage in ("booting", "grace"):
        with pytest.raises(ValueError, match="pretend one of probing_redis, ready, degraded"):
            pretend(startup, stage)
    with pytest.raises(NotRunning):
        await pretend(startup).become("ready")


async def test_a_stage_that_is_none_cannot_be_pretended() -> None:
    said = "^there is no stage 'raedy': pretend one of probing_redis, ready, degraded$"
    with pytest.raises(ValueError, match=said):
        pretend(an_application(), "raedy")
    with pytest.raises(ValueError, match=said):
        await pretend(an_application()).become("raedy")


@pytest.mark.parametrize("first", ["ready", "degraded"])
async def test_what_no_service_comes_back_to_is_refused_at_once(first: str) -> None:
    startup = an_application()
    pretence = pretend(startup, "probing_redis")
    async with startup:
        await pretence.become("probing_redis")  # while it has been neither
        await pretence.become(first)
        with pytest.raises(ValueError, match="no service comes back to probing_redis once"):
            await pretence.become("probing_redis", timeout_seconds=None)
        assert startup.stage is Stage(first)


# -- the plugin and its documentation ------------------------------------------------------------


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """pytest on a folder of its own, as a user runs it."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    kept = {name: value for name, value in os.environ.items() if name == "PYTHONPYCACHEPREFIX"}
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""} | kept
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_documentation_runs(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["orchestrator.testing.plugin"]\n')
    for number, code in enumerate(code_blocks("python")):
        (tmp_path / f"test_block_{number}.py").write_text(code)
    (tmp_path / "test_plugin.py").write_text(
        "import pytest\n"
        "from orchestrator import Orchestrator, Policy\n"
        "@pytest.mark.anyio\n"
        "async def test_the_parts(scripted_redis, manual_clock, stage_log):\n"
        "    redis = scripted_redis('refused 2s, ok')\n"
        "    async with Orchestrator(redis, clock=manual_clock, observers=[stage_log]):\n"
        "        await manual_clock.advance(5)\n"
        "    stage_log.assert_went('booting', ..., 'ready')\n"
    )
    # Starlette asks for the successor of httpx, which has no stable release yet.
    # pytest-asyncio, where it is installed, warns unless it is told which loop fixtures run on.
    loops = ("-W", 'ignore:The configuration option "asyncio_default_fixture_loop_scope"')
    done = run_pytest(tmp_path, "-W", "error", "-W", "ignore:Using `httpx`", *loops)
    assert "12 passed" in done.stdout, done.stdout + done.stderr


def test_the_kit_does_not_need_pytest() -> None:
    code = "import sys, orchestrator.testing; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
