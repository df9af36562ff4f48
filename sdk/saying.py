"""Log messages of modules that every start loads: `logging` itself is loaded with the first of them."""

from typing import Literal


def say(name: str, level: Literal["info", "warning"], words: str, *values: object) -> None:
    """Log ``words % values`` as the module `name`, all of which are below ``tasuki``."""
    import logging

    logger = logging.getLogger(name)
    (logger.warning if level == "warning" else logger.info)(words, *values)
