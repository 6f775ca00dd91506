"""A real RabbitMQ of a test's own, in a directory that goes away with it."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Self

from tests.redis_server import free_port
from tests.server_process import ServerProcess

USER, PASSWORD, VHOST, SMALL_VHOST = "app", "s3cret/pässword", "orders", "small"


def find_rabbitmq() -> Path | None:
    """RabbitMQ's own script; Debian's asks for a user and a directory of its own."""
    found = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
    return found[-1] if found and shutil.which("epmd") else None


def _definitions() -> str:
    salt = b"salt"
    digest = hashlib.sha256(salt + PASSWORD.encode()).digest()
    users = [{"name": USER, "password_hash": base64.b64encode(salt + digest).decode(), "tags": ""}]
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    open_to_us = [{"user": USER, "vhost": name, **everything} for name in (VHOST, SMALL_VHOST)]
    limit = {"component": "vhost-limits", "name": "limits", "vhost": SMALL_VHOST}
    return json.dumps(
        {
            "users": users,
            "vhosts": [{"name": name} for name in (VHOST, SMALL_VHOST, "closed")],
            "permissions": open_to_us,
            "parameters": [{**limit, "value": {"max-connections": 1}}],
        }
    )


def _quiet(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    nowhere = subprocess.DEVNULL
    return subprocess.Popen(command, env=environment, stdin=nowhere, stdout=nowhere, stderr=nowhere)


class RabbitProcess(ServerProcess):
    """One broker on 127.0.0.1, with a user, two virtual hosts of its and one that is closed to it.

    Args:
        certificates: A directory with `ca.pem`, `server.pem` and `server.key`, for TLS.
    """

    def __init__(self, certificates: Path | None = None) -> None:
        script = find_rabbitmq()
        assert script is not None, "needs RabbitMQ"
        super().__init__("rabbitmq", free_port())
        self._script = script
        self.tls_port, self._dist, self._epmd_port = (free_port() for _ in range(3))
        (self.directory / "definitions.json").write_text(_definitions())
        lines = [
            f"listeners.tcp.local = 127.0.0.1:{self.port}",
            f"load_definitions = {self.directory}/definitions.json",
            "disk_free_limit.absolute = 1MB",
            "log.console = false",
        ]
        if certificates is not None:
            lines += [
                f"listeners.ssl.local = 127.0.0.1:{self.tls_port}",
                f"ssl_options.cacertfile = {certificates}/ca.pem",
                f"ssl_options.certfile = {certificates}/server.pem",
                f"ssl_options.keyfile = {certificates}/server.key",
            ]
        (self.directory / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        self._epmd: subprocess.Popen[bytes] | None = None

    def url(self, vhost: str = VHOST, *, user: str = USER, password: str = PASSWORD) -> str:
        secret = password.replace("/", "%2F")
        return f"amqp://{user}:{secret}@127.0.0.1:{self.port}/{vhost}"

    def start(self) -> Self:
        own = {
            "HOME": str(self.directory),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        rabbit = {
            "NODENAME": f"test{self.port}@localhost",
            "DIST_PORT": str(self._dist),
            "CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "CONF_ENV_FILE": "/dev/null",
            "MNESIA_BASE": str(self.directory / "data"),
            "LOG_BASE": str(self.directory / "log"),
            "ENABLED_PLUGINS_FILE": str(self.directory / "plugins"),
            # Small tables, which halve the processor time of a start.
            "SERVER_ERL_ARGS": "+P 20000 +t 1048576",
            "IO_THREAD_POOL_SIZE": "4",
            "SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none"
            " -kernel inet_dist_use_interface {127,0,0,1}",
        }
        environment = {**os.environ, **own, **{f"RABBITMQ_{k}": v for k, v in rabbit.items()}}
        if self._epmd is None:
            self._epmd = _quiet(["epmd"], environment)
        self._process = _quiet([str(self._script)], environment)
        try:
            self.wait_until(lambda: self.answer_to(b"AMQP\x00\x00\x09\x01", 1) == b"\x01", 120)
        except BaseException:
            self.kill()
            raise
        return self

    def close(self) -> None:
        """End it and its name server, and remove its directory."""
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait(30)
        super().close()
