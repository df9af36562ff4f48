"""The embedded broker: rumqttd out of the package `iotcore`, on the loopback, for demos and tests.

It keeps everything in memory: a restart forgets sessions and retained messages. Nothing is lost by that (devices
spool, the gateway announces again), but use Mosquitto or another broker with TLS where a network is in between.
"""

import contextlib
import logging
import os
import signal
import socket
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

from tasuki.sdk.connection import MAX_PACKET
from tasuki.sdk.errors import BrokerUnreachable, MissingExtra

_SETTINGS: Final = """
id = 0
[router]
id = 0
max_connections = 2000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v{version}.1]
name = "tasuki"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v{version}.1.connections]
connection_timeout_ms = 5000
max_payload_size = {payload}
max_inflight_count = 100
"""


class EmbeddedBroker:
    """A broker in a child process that ends with this one. Context manager; `port` 0 takes a free one.

    It speaks MQTT 5, or with `version` 4 only MQTT 3.1.1, and hangs up on whoever speaks the other.
    """

    def __init__(self, port: int = 0, version: Literal[4, 5] = 5) -> None:
        try:
            from iotcore import Broker
        except ModuleNotFoundError:
            raise MissingExtra("the embedded broker is in an extra: pip install 'tasuki[aggregator]'") from None
        self.port = port or _free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="tasuki-broker-")
        settings = Path(self._folder.name) / "rumqttd.toml"
        settings.write_text(_SETTINGS.format(port=self.port, version=version, payload=MAX_PACKET))
        logging.getLogger("iotcore").setLevel(logging.WARNING)
        self._broker = Broker(config_path=str(settings), port=self.port)

    def start(self) -> "EmbeddedBroker":
        """Start and wait until it listens. Raises BrokerUnreachable."""
        try:
            self._broker.start()
        except (OSError, RuntimeError) as error:
            raise BrokerUnreachable(f"the embedded broker can't listen on port {self.port}: {error}") from None
        return self

    def kill(self) -> None:
        """End it as a power cut would (for fault injection); `start` brings an empty one back on the same port."""
        process = self._broker._process
        if process is not None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        with contextlib.suppress(OSError):
            self._broker.stop()

    def stop(self) -> None:
        self._broker.stop()
        self._folder.cleanup()

    def __enter__(self) -> "EmbeddedBroker":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
