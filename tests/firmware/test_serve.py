"""The serial line in text mode, on this machine, with the sanitizers."""

from pathlib import Path

import numpy as np
import pytest
from firmware import serve_kit
from firmware.serve_kit import Classifying
from hypothesis import given, settings
from hypothesis import strategies as st

from tasuki.firmware_bridge.target.image import Image
from tasuki.firmware_bridge.text import serial
from tasuki.firmware_bridge.text.serial import Failed, Labelled
from tasuki.sdk.errors import BoardSilent

_WORDS = ("turn", "on", "off", "the", "light", "kitchen", "play", "stop", "music", "don't", "7", "?!", "LAMP")


@pytest.fixture(scope="module")
def data(tiny_artifact: Path) -> bytes:
    return tiny_artifact.read_bytes()


@pytest.fixture(scope="module")
def application(data: bytes) -> Image:
    return serve_kit.checked(serve_kit.generated(data))


@pytest.fixture(scope="module")
def sdk(data: bytes) -> Classifying:
    return Classifying(data)


def _expect(answer: serial.Answer, line: bytes, sdk: Classifying) -> None:
    wanted = sdk.says(line)
    if len(line) > serial.MAX_LINE_BYTES:
        assert answer == Failed("long")
    elif wanted is None:
        assert answer == Failed("text")
    else:
        assert isinstance(answer, Labelled)
        assert (answer.label, answer.sure) == (wanted[0], wanted[2])
        assert answer.confidence == pytest.approx(wanted[1], abs=1e-4)


_lines = st.lists(
    st.binary(max_size=80).map(lambda line: line.replace(b"\n", b""))
    | st.lists(st.sampled_from(_WORDS), max_size=8).map(lambda words: " ".join(words).encode())
    | st.sampled_from([b"", b"\r", b"\t \r", b"on\r", b"\0", b"o" * 256, b"o" * 255 + b"\r", b"o " * 128 + b"x"])
    | st.just(b"a" * 5000),
    min_size=1, max_size=40,
)  # fmt: skip


@given(lines=_lines)
@settings(deadline=None, max_examples=60)
def test_every_line_has_its_answer(lines: list[bytes], application: Image, sdk: Classifying) -> None:
    with serve_kit.serving(application) as line:
        line.write(b"".join(text + b"\n" for text in lines))
        for text in lines:
            _expect(serial.read(line), text, sdk)


def test_lines_may_come_in_any_pieces(application: Image, sdk: Classifying) -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(_WORDS, rng.integers(1, 9))).encode() for _ in range(60)]
    sent = b"".join(text + b"\r\n" for text in texts)
    with serve_kit.serving(application) as line:
        while sent:
            size = int(rng.integers(1, 90))
            line.write(sent[:size])
            sent = sent[size:]
        for text in texts:
            _expect(serial.read(line), text, sdk)


def test_the_application_ends_when_the_line_does(application: Image) -> None:
    import subprocess

    done = subprocess.run([application.path], input=b"on\noff and no end", capture_output=True, timeout=60)
    said = done.stdout.decode().splitlines()
    assert done.returncode == 0
    assert said[0] == "ready\tmodel"
    assert len(said) == 2


class _Recorded:
    """A line that says what it is told."""

    def __init__(self, *said: str) -> None:
        self.said, self.sent = list(said), b""

    def write(self, data: bytes) -> None:
        self.sent += data

    def read_line(self) -> str:
        return self.said.pop(0)


def test_the_host_reads_what_boards_say() -> None:
    line = _Recorded(
        "sure\tturn_on\t0.9871\t12", "unsure\ta b\t0.5000\t0", "error\tlong",
        r"text\t".replace(r"\t", "\t") + r"a\nb\\n\x07\t.", "done\tstop\t3\t44", "text\tcut", "error\tmodel",
    )  # fmt: skip
    found = serial.ask(line, ["on\noff", "\ud800", "x", "y", "z"])
    assert line.sent == b"on off\n?\nx\ny\nz\n"
    assert found == [
        Labelled("turn_on", 0.9871, True, 12), Labelled("a b", 0.5, False, 0), Failed("long"),
        serial.Written("a\nb\\n\x07\t.", "stop", 3, 44), Failed("model"),
    ]  # fmt: skip
    assert [str(answer) for answer in found] == [
        "turn_on 0.9871 sure, 12 ms", "a b 0.5000 unsure, 0 ms",
        "error: long (it has more than 256 bytes, which TSK_SERVE_LINE of the build sets)",
        "'a\\nb\\\\n\\x07\\t.' (stop after 3 tokens, 44 ms)", "error: model (the model could not be run)",
    ]  # fmt: skip
    serial.greet(_Recorded("ready\tmodel"))
    for said in ("error\tselftest", "ready", "readyish\tmodel"):
        with pytest.raises(BoardSilent, match=said.split("\t")[-1]):
            serial.greet(_Recorded(said))


def test_every_escape_is_read() -> None:
    answer = serial.read(_Recorded("text\t" + r"\r\n\t\\\x7f\x00é", "done\tcontext\t3\t44"))
    assert answer == serial.Written("\r\n\t\\\x7f\0é", "context", 3, 44)


@pytest.mark.parametrize(
    "said",
    [["tsk fault"], ["sure\tx\t2.0000\t1"], ["sure\tx\t0x5000\t1"], ["sure\tx\t0.5000\t-1"],
     ["text\ta", "done\tstop\t1\t-1"], ["text\ta", "error\twhat"],
     ["sure\tx\t0.5\t1"], ["sure\tx\t0.5000"], ["error\twhat"], [""],
     ["text\ta", "done\tstop\t1"], ["text\ta", "sure\tx\t0.5000\t1"], ["text\ta", "done\tnever\t1\t2"]],
)  # fmt: skip
def test_other_words_are_no_answer(said: list[str]) -> None:
    with pytest.raises(BoardSilent):
        serial.read(_Recorded(*said))
