"""The serial line of a process: scripts in the place of images."""

import itertools
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasuki.firmware_bridge.target import boards, qemu
from tasuki.firmware_bridge.target.qemu import Line
from tasuki.sdk.errors import BoardSilent

HOST = boards.get("host")


@contextmanager
def saying(folder: Path, body: str, timeout: float = 30.0) -> Iterator[Line]:
    """The line of a shell script."""
    script = folder / "script"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    with qemu.running(HOST, script, timeout) as line:
        yield line


def test_what_is_said_while_it_is_written_to_is_kept(tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096
    with saying(tmp_path, "exec cat") as line:
        line.write(data)
        assert line.read(len(data)) == data


def test_time_counts_from_the_last_byte_that_was_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    with saying(tmp_path, "cat > /dev/null\nexec sleep 30", timeout=4) as line:
        monkeypatch.setattr(qemu.time, "monotonic", lambda: next(clock))
        line.write(bytes(1 << 20))
        monkeypatch.undo()
    assert next(clock) > 8


def test_an_end_of_line_is_taken_off_and_nothing_else(tmp_path: Path) -> None:
    with saying(tmp_path, r"printf ' a \t\r\n \n\n'; exec sleep 30") as line:
        assert [line.read_line() for _ in range(3)] == [" a \t", " ", ""]


def test_more_than_anybody_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "_MOST", 1000)
    with saying(tmp_path, "head -c 1001 /dev/zero; exec sleep 30") as line:
        with pytest.raises(BoardSilent, match="host says more than 1,000 bytes that nobody asked for"):
            line.read_line()


def test_the_last_words_are_few(tmp_path: Path) -> None:
    with saying(tmp_path, f"echo {'a' * 100}{'b' * 80} | tr -d '\\n'; exec sleep 30", timeout=0.5) as line:
        with pytest.raises(BoardSilent, match=r"host did not come to an end in 0\.5 s; the last it said was 'b{80}'$"):
            line.read_line()


def test_a_process_that_hears_no_more(tmp_path: Path) -> None:
    with saying(tmp_path, "exec 0<&-\necho closed\nexec sleep 30") as line:
        assert line.read_line() == "closed"
        with pytest.raises(BoardSilent, match="host ended; the last it said was 'closed"):
            line.write(b"hello\n")


def test_storage_lasts_as_long_as_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TASUKI_STORAGE", raising=False)
    with saying(tmp_path, 'echo x > "$TASUKI_STORAGE"; echo "$TASUKI_STORAGE"; exec sleep 30') as line:
        storage = Path(line.read_line())
        assert storage.read_text() == "x\n"
    assert not storage.parent.exists()


def test_a_line_is_three_pipes() -> None:
    with subprocess.Popen(["true"], stdout=subprocess.PIPE) as process:
        with pytest.raises(ValueError, match="three pipes"):
            Line(process, "host", 1.0)
