"""The servers that a fleet is tested on: Redis, Valkey, and an old Redis where there is one."""

import functools
import os
import re
import subprocess

import pytest

from tests.redis_server import find_redis_server, find_valkey_server

PROGRAMS = {
    name: program
    for name, program in (
        ("redis", find_redis_server()),
        ("valkey", find_valkey_server()),
        ("old-redis", os.environ.get("OLD_REDIS_SERVER")),
    )
    if program is not None
}
"""Programs for `RedisServer(binary=...)`; the oldest that is supported is Redis 6.2."""

EACH_PROGRAM = [
    pytest.param(name, id=name, marks=[pytest.mark.long] if number else [])
    for number, name in enumerate(PROGRAMS)
]
"""Their names as parameters: the first is tried always, the others where there is time."""


@functools.cache
def is_old(program: str) -> bool:
    """Whether it is older than Redis 7, and lacks some of what its tests are set up with."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=(\d+)", said)
    assert found is not None, said
    return int(found[1]) < 7
