"""A policy that cannot work is refused when it is built, by one clear line."""

import math
from dataclasses import fields

import pytest

from states import Platform, Policy, PolicyError


def test_the_defaults_by_platform() -> None:
    gcp = [platform for platform in Platform if platform.is_gcp]
    assert {(p.budget_seconds, p.grace_seconds) for p in map(Policy.for_platform, gcp)} == {
        (60.0, 0.5)
    }
    for platform in (Platform.KUBERNETES, Platform.OTHER):
        policy = Policy.for_platform(platform)
        assert (policy.budget_seconds, policy.grace_seconds) == (30.0, 0.0)
        assert policy.platform is platform


def test_the_drain_fits_the_time_that_each_platform_gives() -> None:
    kills_after = {Platform.KUBERNETES: 30.0}  # of the others: docker stop, Google Cloud
    for platform in Platform:
        policy = Policy.for_platform(platform)
        assert policy.drain_limit_seconds < kills_after.get(platform, 10.0)
        assert (policy.drain_announce_seconds > 0) == (platform is Platform.KUBERNETES)
    assert Policy(drain_close_seconds=0.0, drain_limit_seconds=0.0).drain_limit_seconds == 0


def test_overrides_go_before_the_platforms_defaults() -> None:
    policy = Policy.for_platform(Platform.CLOUD_RUN, grace_seconds=2)
    assert (policy.budget_seconds, policy.grace_seconds) == (60.0, 2)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"budget_seconds": 0}, "Policy.budget_seconds is 0; it must be a number above 0"),
        ({"grace_seconds": -1}, "Policy.grace_seconds is -1; it must be a number of 0 or more"),
        ({"grace_seconds": math.nan}, "Policy.grace_seconds is nan"),
        ({"budget_seconds": math.inf}, "Policy.budget_seconds is inf"),
        ({"failures_to_degrade": 0}, "a whole number of 1 or more"),
        ({"failures_to_degrade": 2.5}, "a whole number of 1 or more"),
        ({"failures_to_degrade": True}, "a whole number of 1 or more"),
        ({"retry_jitter": 0.6}, "a number from 0 to 0.5"),
        ({"budget_seconds": 10**400}, "it must be a number above 0"),
        ({"stall_seconds": 0.001}, "a number of 0.02 or more"),
        ({"retry_growth": 0.9}, "a number of 1 or more"),
        ({"grace_seconds": 31}, "at most 30, the budget"),
        ({"attempt_timeout_seconds": 31}, "at most 30, the budget"),
        ({"retry_first_seconds": 2}, "at most 1, retry_cap_seconds"),
        ({"retry_steady_seconds": 2}, "at most 1, retry_cap_seconds"),
        ({"flap_grace_seconds": 40}, "at most 30, flap_grace_cap_seconds"),
        ({"drain_announce_seconds": 9}, "at most 8, the whole drain (drain_limit_seconds)"),
        (
            {"drain_announce_seconds": 7},
            "Policy.drain_close_seconds is 2.0; it must be at most 1, drain_limit_seconds less",
        ),
        ({"drain_limit_seconds": 0}, "Policy.drain_close_seconds is 2.0; it must be at most 0"),
        (
            {"platform": Platform.APP_ENGINE, "drain_limit_seconds": 11},
            "must be at most 10, which is when Google Cloud kills",
        ),
        ({"platform": "mars"}, "one of cloud_run, "),
        (
            {"platform": Platform.CLOUD_RUN, "budget_seconds": 241},
            "Policy.budget_seconds is 241; it must be at most 240, the longest that a Cloud Run",
        ),
    ],
)
def test_what_cannot_work_is_refused(values: dict[str, float], text: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Policy(**values)  # type: ignore[arg-type]  # wrong types are part of the test
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_field_says_why_it_is_as_it_is() -> None:
    for field in fields(Policy):
        assert field.metadata["why"].endswith(".")
