"""Debian's Mosquitto as a child process; without it, tests fail and say how to install it."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 20.0


class Mosquitto:
    """A Mosquitto process with the settings in `file`."""

    def __init__(self, file: Path, port: int) -> None:
        found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
        assert found, "Mosquitto is missing: apt-get install mosquitto"
        if os.geteuid() == 0 and "user root" not in file.read_text():
            # Started by root it would become a user who can't read a test's folder.
            file.write_text(file.read_text() + "\nuser root\n")
        self.port = port
        self._command = [found, "-c", str(file)]

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        deadline = time.monotonic() + PATIENCE
        while not self._listens():
            assert time.monotonic() < deadline, f"{self._command} does not listen"
            time.sleep(0.02)

    def _listens(self) -> bool:
        assert self._process.poll() is None, f"{self._command} ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        self._process.send_signal(how)
        self._process.wait(PATIENCE)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def gateway_folder(work: Path, fleet_name: str, artifact: Path) -> Path:
    """What `tasuki gateway init --tls` makes, in `work`: its settings are for a free port."""
    from tasuki.aggregator import fleet

    held_out = work / "texts.jsonl"
    held_out.write_text('{"text": "turn on the light", "label": "light_on"}\n')
    fleet.init(work / fleet_name, fleet_name, artifact, held_out, "127.0.0.1", free_port(), tls=True)
    return work / fleet_name


@contextmanager
def plain_mosquitto(work: Path, *settings: str) -> Iterator[Mosquitto]:
    """Mosquitto without TLS on a free port of the loopback, with these lines more in its settings."""
    port, file = free_port(), work / "mosquitto.conf"
    file.write_text("\n".join((f"listener {port} 127.0.0.1", "allow_anonymous true", *settings, "")))
    broker = Mosquitto(file, port)
    broker.start()
    try:
        yield broker
    finally:
        broker.end()
