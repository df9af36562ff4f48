"""Files from templates: C, build files and READMEs. Nothing is HTML, and a name that a template lacks is an error."""

from pathlib import Path
from typing import Final

import jinja2

TEMPLATES: Final = Path(__file__).parents[1] / "templates"


def environment(*folders: str) -> jinja2.Environment:
    """The templates in `folders` of `TEMPLATES`, the first that has a name; in `TEMPLATES` itself if none is given."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([TEMPLATES / folder for folder in folders or (".",)]),
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  not HTML
    )  # fmt: skip
