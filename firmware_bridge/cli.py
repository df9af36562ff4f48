"""`tasuki firmware`: not there yet, and it says so."""

from pathlib import Path

import click

from tasuki.sdk import artifact as artifacts
from tasuki.sdk.errors import NotAvailable


@click.group()
def firmware() -> None:
    """The artifact as C99 for Cortex-M.

    Example: tasuki firmware build lamp.tflite
    """


@firmware.command()
@click.argument("artifact", type=click.Path(path_type=Path))
def build(artifact: Path) -> None:
    """Generate C99 from ARTIFACT (not available yet).

    Example: tasuki firmware build lamp.tflite
    """
    artifacts.load(artifact)
    raise NotAvailable("not available yet: the C generator that lowers the int8 operators to C99 is missing")
