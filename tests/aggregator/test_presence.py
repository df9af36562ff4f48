"""Who is online: said by the device, or by its last will when the line breaks; for operators only."""

import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from fleet_kit import Member, found, join

from tasuki.aggregator.broker import EmbeddedBroker
from tasuki.aggregator.cli import gateway
from tasuki.aggregator.gateway import Gateway
from tasuki.aggregator.rules import Rules
from tasuki.sdk import connection, topics

PATIENCE = 20.0


@pytest.fixture
def member(tmp_path: Path, tiny_artifact: Path, broker: EmbeddedBroker) -> Iterator[Member]:
    """An enrolled device, beside a running gateway."""
    folder = found(tmp_path, tiny_artifact, broker.port)
    enrolled = join(folder, "attic")
    serving, made = threading.Event(), threading.Event()
    running: list[Gateway] = []

    def tell(event: dict[str, object]) -> None:
        if event["event"] == "serving":
            serving.set()

    def run() -> None:
        running.append(Gateway(Rules(folder), folder, "127.0.0.1", broker.port, tell, random.Random(1)))
        made.set()
        running[0].run(1.0, 3600.0)

    thread = threading.Thread(target=run)
    thread.start()
    assert made.wait(PATIENCE)
    assert serving.wait(PATIENCE)
    yield enrolled
    running[0].stop()
    thread.join(PATIENCE)


def shown(folder: Path) -> str:
    """The line of the device in `tasuki gateway status`."""
    said = CliRunner().invoke(gateway, ["status", str(folder / "gateway")])
    assert said.exit_code == 0
    (line,) = [line for line in said.output.splitlines() if line.startswith("  attic:")]
    return line


def until_shown(folder: Path, words: str) -> None:
    end = threading.Event()
    for _ in range(200):
        if words in shown(folder):
            return
        end.wait(0.1)
    raise AssertionError(shown(folder))


def test_a_device_is_online_until_it_says_goodbye_or_its_line_breaks(tmp_path: Path, member: Member) -> None:
    assert shown(tmp_path) == "  attic: 0 updates, never seen"
    known = member.enrolment
    line = connection.device_line(known, tmp_path, topics.status(known.fleet, known.device))
    with connection.opened(line) as (_, inbox):
        assert inbox.get(timeout=PATIENCE).kind == "connected"
        until_shown(tmp_path, "online since")
    until_shown(tmp_path, "offline since")
    with connection.opened(line) as (client, inbox):
        assert inbox.get(timeout=PATIENCE).kind == "connected"
        until_shown(tmp_path, "online since")
        # The line breaks without a word: the broker says it for the device.
        client.socket().shutdown(socket.SHUT_RDWR)
        until_shown(tmp_path, "offline since")
