"""Build the command switch, start it in the emulator, and speak to it; `README.md` beside it says how."""

import argparse
import tempfile
from pathlib import Path

from tasuki.firmware_bridge import boards, build, measure, qemu, serving, text
from tasuki.firmware_bridge.text import serial

MAIN = Path(__file__).parent / "main.c"


def main() -> None:
    parser = argparse.ArgumentParser(description="A smart-home command over the serial line, a switch, the answer back")
    parser.add_argument("texts", nargs="*", default=["turn on the kitchen light"], help="what the switch is told")
    parser.add_argument("--artifact", type=Path, help="with the labels turn_on and turn_off; else the demo's student")
    parser.add_argument("--state", type=Path, help="state directory of a device, whose adapter is built in")
    parser.add_argument("--board", default="mps2-an386", choices=boards.NAMES)
    asked = parser.parse_args()
    if asked.artifact is None:
        from tasuki.converter.build import build as train

        asked.artifact = train().artifact
    model = build.generate(asked.artifact, learned=text.learned(asked.artifact, asked.state) if asked.state else None)
    with tempfile.TemporaryDirectory() as folder:
        image = measure.link(model, boards.get(asked.board), MAIN.read_bytes(), Path(folder) / "switch.elf")
        with qemu.running(boards.get(asked.board), image.path) as line:
            serial.greet(line)
            for said in asked.texts:
                line.write(serial.encode(said))
                answer = serial.read(line)
                switch = "" if isinstance(answer, serial.Failed) else "; " + line.read_line().replace("\t", " is ")
                print(f"{said!r}: {serving.words(answer)}{switch}")


if __name__ == "__main__":
    main()
