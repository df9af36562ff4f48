"""Build the command switch, start it in the emulator, and speak to it; `README.md` beside it says how."""

import sys
import tempfile
from pathlib import Path

import options

from tasuki.firmware_bridge import build, text
from tasuki.firmware_bridge.target import measure, qemu, serving
from tasuki.firmware_bridge.text import serial
from tasuki.sdk.errors import TasukiError


def main() -> None:
    asked = options.read()
    model = build.generate(asked.artifact, learned=text.learned(asked.artifact, asked.state) if asked.state else None)
    with tempfile.TemporaryDirectory() as folder:
        image = measure.link(model, asked.board, options.MAIN.read_bytes(), Path(folder) / asked.image)
        if asked.board.folder:  # a board of one's own, which no emulator has
            Path(asked.image).write_bytes(image.path.read_bytes())
            print(f"{asked.image}: `tasuki firmware flash` writes it to the board; speak to its serial line")
            return
        with qemu.running(asked.board, image.path) as line:
            serial.greet(line)
            for said in asked.texts:
                line.write(serial.encode(said))
                answer = serial.read(line)
                switch = "" if isinstance(answer, serial.Failed) else "; " + line.read_line().replace("\t", " is ")
                print(f"{said!r}: {serving.words(answer)}{switch}")


if __name__ == "__main__":
    try:
        main()
    except TasukiError as error:
        sys.exit(f"run.py: error: {error}")
