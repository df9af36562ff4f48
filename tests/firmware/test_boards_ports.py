"""Every port does what tsk_port.h says: on the host, and on each emulated board."""

import os
from pathlib import Path

import pytest

from tasuki.firmware_bridge.target import boards, image, qemu
from tasuki.firmware_bridge.target.boards import Board
from tasuki.firmware_bridge.target.qemu import Line
from tasuki.sdk.errors import BoardSilent, BuildFailed, ModelTooLarge

CHECK = Path(__file__).parent / "port_check.c"
HOST = boards.get("host")
CORES = [
    pytest.param(board, id=board.name, marks=pytest.mark.boards) for board in boards.BOARDS if not board.is_host
]  # fmt: skip
OK, ARGUMENT, IO = 0, -1, -5


def built(board: Board, folder: Path, source: str | Path, **defines: int) -> image.Image:
    """An image of one C file, or of its text."""
    if isinstance(source, str):
        path = folder / "main.c"
        path.write_text(source)
    else:
        path = source
    return image.link(board, [path], folder / "image", defines={"HERTZ": board.hertz, **defines})


def said(line: Line) -> dict[str, int]:
    """What the check says, up to its last line."""
    found: dict[str, int] = {}
    while "waited" not in found:
        word, _, number = line.read_line().partition(" ")
        found[word] = int(number)
    return found


@pytest.mark.parametrize("board", [pytest.param(HOST, id="host"), *CORES])
def test_the_five_functions(board: Board, tmp_path: Path) -> None:
    made = built(board, tmp_path, CHECK)
    with qemu.running(board, made.path) as line:
        found = said(line)
        everything = bytes(range(256)) * 4
        line.write(everything)
        assert line.read(len(everything)) == everything
    assert found["size"] % found["sector"] == 0
    assert found["size"] >= 2 * found["sector"]
    for word in ("read", "erase", "write", "end"):
        assert found[word] == OK, word
    for word in ("beyond", "huge", "crooked", "null"):
        assert found[word] == ARGUMENT, word
    assert found["erased"] == found["written"] == 1
    assert found["silence"] == 0
    assert 50 <= found["waited"] < (5000 if board.is_host else 52)
    assert (found["entropy"], found["random"]) == ((OK, 1) if board.is_host else (IO, 0))


def test_the_hosts_storage_survives_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASUKI_STORAGE", str(tmp_path / "storage"))
    made = built(HOST, tmp_path, CHECK)
    kept = []
    for _ in range(2):
        with qemu.running(HOST, made.path) as line:
            kept.append(said(line)["kept"])
    assert kept == [0, 1]
    assert (tmp_path / "storage").stat().st_mode & 0o777 == 0o600


def test_a_storage_that_can_not_be_opened_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASUKI_STORAGE", str(tmp_path / "no" / "folder"))
    with qemu.running(HOST, built(HOST, tmp_path, CHECK).path) as line:
        assert said(line)["erase"] == IO


def test_an_image_that_ends_says_what_it_said_last(tmp_path: Path) -> None:
    source = '#include <stdio.h>\nint main(void) {\n    return puts("so far so good") < 0;\n}\n'
    with qemu.running(HOST, built(HOST, tmp_path, source).path) as line:
        assert line.read_line() == "so far so good"
        with pytest.raises(BoardSilent, match="host ended; the last it said was 'so far so good"):
            line.read_line()


def test_an_image_that_can_not_start(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_text("not a program")
    with pytest.raises(BoardSilent, match="host does not start"), qemu.running(HOST, path):
        pass


ENDLESS = "int main(void) {\n    for (;;) {\n    }\n}\n"


@pytest.mark.parametrize("board", [pytest.param(HOST, id="host"), *CORES])
def test_silence_is_named_and_the_process_killed(board: Board, tmp_path: Path) -> None:
    made = built(board, tmp_path, ENDLESS)
    with qemu.running(board, made.path, timeout=0.5) as line:
        with pytest.raises(BoardSilent, match=rf"{board.name} said nothing for 0\.5 s; it never said a word"):
            line.read_line()
        process = line.process
        assert process.poll() is None
    assert process.poll() is not None
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


BABBLE = "#include <stdio.h>\nint main(void) {\n    for (;;) {\n        (void)putchar('a');\n    }\n}\n"


def test_a_board_that_never_stops_talking(tmp_path: Path) -> None:
    made = built(HOST, tmp_path, BABBLE)
    with qemu.running(HOST, made.path, timeout=0.3) as line:
        with pytest.raises(BoardSilent, match=r"host did not come to an end in 0\.3 s"):
            line.read_line()
        with pytest.raises(BoardSilent, match="host takes no input"):
            line.write(bytes(1 << 20))


COUNT = """\
#include "tsk_clock.h"
#include "tsk_port.h"

int main(void) {
    for (;;) {
        uint8_t go;
        if (tsk_port_read(&go, 1, 1000u) == 1) {
            const uint64_t before = tsk_clock_ticks(HERTZ);
            __asm volatile("mov r0, #2000\\n 1: subs r0, #1\\n bne 1b" ::: "r0", "cc");
            const uint64_t after = tsk_clock_ticks(HERTZ);
            uint32_t ticks = (uint32_t)(after - before);
            (void)tsk_port_write(&ticks, sizeof ticks);
        }
    }
}
"""


@pytest.mark.parametrize("board", CORES)
def test_a_nanosecond_an_instruction(board: Board, tmp_path: Path) -> None:
    """4,000 instructions and the two readings of the clock, to one tick, and the same each time but for that tick."""
    made = built(board, tmp_path, COUNT)
    tick = 1_000_000_000 / board.hertz
    with qemu.running(board, made.path) as line:
        for _ in range(3):
            line.write(b"!")
            counted = int.from_bytes(line.read(4), "little") * tick
            assert 4000 - tick <= counted <= 4100 + tick


WRAP = """\
#include "tsk_clock.h"
#include "tsk_port.h"

int main(void) {
    uint32_t before = tsk_port_milliseconds();
    const uint64_t ticks = tsk_clock_ticks(HERTZ);
    uint32_t wraps = 0;
    while (wraps < 2) {
        const uint64_t passed = (tsk_clock_ticks(HERTZ) - ticks) / (HERTZ / 1000u);
        const uint32_t now = tsk_port_milliseconds();
        if (now < before || now - (uint32_t)passed > 1u) {
            (void)tsk_port_write("wrong\\n", 6);
            return 1;
        }
        if (now > (wraps + 1u) * 700u) {
            wraps++;
        }
        before = now;
        __asm volatile("wfi");
    }
    (void)tsk_port_write("right\\n", 6);
    return 0;
}
"""


@pytest.mark.parametrize("board", CORES)
def test_time_goes_on_when_the_timer_wraps(board: Board, tmp_path: Path) -> None:
    with qemu.running(board, built(board, tmp_path, WRAP).path) as line:
        assert line.read_line() == "right"


RESET = """\
#include "tsk_port.h"

int main(void) {
    uint8_t mark = 0x5A;
    uint8_t found = 0;
    (void)tsk_port_storage(TSK_STORAGE_READ, 0, &found, 1);
    if (found == mark) {
        (void)tsk_port_write("kept\\n", 5);
        return 0;
    }
    (void)tsk_port_write("new\\n", 4);
    (void)tsk_port_storage(TSK_STORAGE_ERASE, 0, NULL, (size_t)tsk_port_storage(TSK_STORAGE_SECTOR, 0, NULL, 0));
    (void)tsk_port_storage(TSK_STORAGE_WRITE, 0, &mark, 1);
    *(volatile uint32_t *)0xE000ED0Cu = 0x05FA0004u; /* AIRCR: reset */
    for (;;) {
    }
}
"""


@pytest.mark.parametrize("board", CORES)
def test_storage_survives_a_reset(board: Board, tmp_path: Path) -> None:
    with qemu.running(board, built(board, tmp_path, RESET).path) as line:
        assert [line.read_line(), line.read_line()] == ["new", "kept"]


@pytest.mark.boards
def test_a_fault_says_so(tmp_path: Path) -> None:
    board = boards.get("mps2-an386")
    source = 'int main(void) {\n    __asm volatile("udf #0");\n    return 0;\n}\n'
    with qemu.running(board, built(board, tmp_path, source).path) as line:
        assert line.read_line() == "tsk fault"


RECURSION = """\
static int f(volatile int *n) {
    return (*n)-- > 0 ? f(n) + 3 * f(n) : *n;
}

int main(void) {
    volatile int n = 3;
    return f(&n);
}
"""


@pytest.mark.boards
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (RECURSION, "recursion: f -> f"),
        ("#include <stdlib.h>\nint main(void) {\n    return malloc(8) == 0;\n}\n", "link: .*_sbrk"),
        ("#include <stdio.h>\nint main(void) {\n    return printf(\"%d\", 1);\n}\n", "link: .*_(sbrk|write|close)"),
    ],
)  # fmt: skip
def test_recursion_and_the_heap_do_not_link(body: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match=words):
        built(boards.get("mps2-an386"), tmp_path, body)


@pytest.mark.boards
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("volatile char bulk[512 * 1024];", r"\d+ bytes more memory than mps3-an547 has"),
        ("volatile char bulk[512 * 1024 - 64];", r"\d+ bytes more memory than mps3-an547 has, \d+ of stack included"),
        ("const volatile char bulk[2 * 1024 * 1024] = {1};", r"\d+ bytes more flash than mps3-an547 has"),
    ],
)
def test_what_does_not_fit_says_by_how_much(body: str, words: str, tmp_path: Path) -> None:
    source = f"{body}\nint main(void) {{\n    return bulk[0];\n}}\n"
    with pytest.raises(ModelTooLarge, match=words):
        built(boards.get("mps3-an547"), tmp_path, source)
