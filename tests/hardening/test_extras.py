"""Whoever lacks an extra is told which one, and nothing else is taken for that."""

import importlib

import pytest

from orchestrator._hardening.extras import needs


def test_a_missing_package_names_its_extra_and_what_it_lacks_itself_does_not() -> None:
    words = r"^queue\(\) needs some-driver: install startup-orchestrator\[driver\]$"
    with (
        pytest.raises(ModuleNotFoundError, match=words) as missing,
        needs("queue()", "some-driver", "no_such_driver", "driver"),
    ):
        importlib.import_module("no_such_driver")
    assert missing.value.name == "no_such_driver"
    with (
        pytest.raises(ModuleNotFoundError, match=r"^No module named 'no_such_codec'$"),
        needs("queue()", "some-driver", "no_such_driver", "driver"),
    ):
        importlib.import_module("no_such_codec")
