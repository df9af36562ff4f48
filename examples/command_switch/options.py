"""What `run.py` is told, what it runs, and the student that it takes where no artifact is named."""

import argparse
from pathlib import Path

from tasuki.firmware_bridge.target import boards
from tasuki.sdk.errors import MissingExtra

MAIN = Path(__file__).parent / "main.c"


def read() -> argparse.Namespace:
    """The options, with board and artifact that they name, and the image's name. Raises InputError, MissingExtra."""
    parser = argparse.ArgumentParser(description="A smart-home command over the serial line, a switch, the answer back")
    parser.add_argument("texts", nargs="*", default=["turn on the kitchen light"], help="what the switch is told")
    parser.add_argument("--artifact", type=Path, help="with the labels turn_on and turn_off; else the demo's student")
    parser.add_argument("--state", type=Path, help="state directory of a device, whose adapter is built in")
    parser.add_argument("--board", default="mps2-an386", help="of `tasuki firmware boards`, or the folder of your own")
    asked = parser.parse_args()
    asked.board = boards.get(asked.board)
    asked.image = f"switch-{asked.board.name}.elf"
    asked.artifact = asked.artifact or demo()
    return asked


def demo() -> Path:
    """The artifact of `make demo`, trained the first time. Raises MissingExtra."""
    try:
        from tasuki.converter.build import build

        return build().artifact
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"the demo's student needs {error.name}: pip install 'tasuki[demo]', or name an artifact: "
            "--artifact lamp.tflite"
        ) from None
