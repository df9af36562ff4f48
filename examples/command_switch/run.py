"""Build the command switch, start it in the emulator, and speak to it.

python examples/command_switch/run.py 'turn on the kitchen light' 'what is the weather' 'switch the light off'
"""

import argparse
import tempfile
from pathlib import Path

from tasuki.firmware_bridge import boards, build, measure, qemu, serving, text
from tasuki.firmware_bridge.text import serial
from tasuki.sdk.errors import BoardSilent

MAIN = Path(__file__).parent / "main.c"


def standard_student() -> Path:
    """The student of `make demo`: from the cache, or trained first."""
    from tasuki.converter.build import build as train

    return train().artifact


def main() -> None:
    parser = argparse.ArgumentParser(description="A smart-home command over the serial line, a switch, the answer back")
    parser.add_argument("texts", nargs="*", default=["turn on the kitchen light"], help="what the switch is told")
    parser.add_argument("--artifact", type=Path, help="a classifier with the labels turn_on and turn_off")
    parser.add_argument("--state", type=Path, help="state directory of a device, whose adapter is built in")
    parser.add_argument("--board", default="mps2-an386", choices=boards.NAMES)
    options = parser.parse_args()
    board = boards.get(options.board)
    artifact = options.artifact or standard_student()
    adapter = text.learned(artifact, options.state) if options.state else None
    generated = build.generate(artifact, learned=adapter)
    with tempfile.TemporaryDirectory() as folder:
        made = measure.link(generated, board, MAIN.read_bytes(), Path(folder) / "switch.elf")
        with qemu.running(board, made.path) as line:
            if not serial.ready(line.read_line()):
                raise BoardSilent("the switch is not ready: its self-test fails")
            for said in options.texts:
                line.write(serial.encode(said))
                answer = serial.read(line)
                switch = "" if isinstance(answer, serial.Failed) else "; " + line.read_line().replace("\t", " is ")
                print(f"{said!r}: {serving.words(answer)}{switch}")


if __name__ == "__main__":
    main()
