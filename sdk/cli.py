"""The command `tasuki`. Each room brings its own sub-commands; they are loaded only when they are called."""

import errno
import os
import signal
import sys
from importlib.metadata import entry_points, version
from typing import NoReturn

import click

from tasuki.sdk.errors import MissingExtra, TasukiError

# Which extra brings what a sub-command needs; None: every installation has it.
EXTRAS = {
    "demo": "demo",
    "tiers": "converter",
    "distil": "converter",
    "convert": "converter",
    "key": None,
    "sign": None,
    "inspect": None,
    "device": None,
    "gateway": "aggregator",
    "firmware": "firmware",
    "bench": "demo",
}
_INTERRUPTED = 130
_TERMINATED = 143
_UNWRITTEN = 74


class _Rooms(click.Group):
    """A group that imports a sub-command's module at its first use (Click's lazy group)."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(EXTRAS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in EXTRAS:
            return None
        (entry,) = entry_points(group="tasuki.commands", name=cmd_name)
        try:
            command: click.Command = entry.load()
        except ModuleNotFoundError as error:
            raise MissingExtra(
                f"`tasuki {cmd_name}` needs {error.name}: pip install 'tasuki[{EXTRAS[cmd_name]}]'"
            ) from None
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the rooms without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_SUMMARIES.items()))


_SUMMARIES = {
    "demo": "The whole relay on this machine: teacher to fleet and back, with a report.",
    "tiers": "Show which students there are, and the best one under a budget.",
    "distil": "Distil a teacher into a student.",
    "convert": "Turn a student, checkpoint, GGUF or Keras file into one full-int8 .tflite artifact.",
    "key": "Make the key that signs artifacts.",
    "sign": "Sign an artifact.",
    "inspect": "Show what an artifact holds, and check its signature.",
    "device": "Predict, learn and sync on a board.",
    "gateway": "Admit, merge, judge and publish beside a broker.",
    "firmware": "The artifact as C99 for Cortex-M.",
    "bench": "Measure, and print what was measured.",
}


@click.group(cls=_Rooms, epilog="Example: tasuki device predict lamp.tflite 'turn on the kitchen light'")
@click.version_option(version("tasuki"), prog_name="tasuki")
def tasuki() -> None:
    """Small language models for fleets of boards: distil, learn on the device, bring back only sealed updates."""


def main() -> None:
    """Run the command line; errors are one line on stderr and an exit code of sysexits.h."""
    # As Ctrl-C: what was begun is put away on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    try:
        code = tasuki.main(standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort:
        sys.exit(_INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except TasukiError as error:
        click.echo(f"tasuki: error: {' '.join(str(error).split())}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except OSError as error:
        _unwritten(error)
    sys.exit(code if isinstance(code, int) else 0)


def _unwritten(error: OSError) -> NoReturn:
    """End where there is no room, or nobody reads what is printed; what is still held can't be written either."""
    if error.errno not in (errno.ENOSPC, errno.EPIPE):
        raise error
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    where = f" {error.filename}" if error.filename else ""
    click.echo(f"tasuki: error: can't write{where}: {error.strerror}; make room, or write elsewhere", err=True)
    sys.exit(_UNWRITTEN)
