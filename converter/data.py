"""Texts by role: the standard smart-home commands, or a user's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tasuki.converter import homes
from tasuki.converter.lexicon import PUBLIC
from tasuki.converter.sources import HOME_ASSISTANT_INTENTS
from tasuki.converter.texts import Texts, read_texts, split_texts
from tasuki.sdk.errors import TextsInvalid

SMART_HOME: Final = "smart-home"
# The share that is held out, and how many texts are enough.
_HELD_OUT: Final = 0.1
_ENOUGH: Final = 800
# Below this confidence can't be fitted (`assemble.LEAST_HELD_OUT`), nor an epoch be chosen.
_LEAST: Final = 20


@dataclass(frozen=True)
class Data:
    """Texts by role: `train`; `validation`, which ends the training; `held_out`, which nothing is chosen on; `tests`.

    `slots` are names that may stand for each other. `origin` says where the texts come from.
    """

    name: str
    train: Texts
    validation: Texts
    held_out: Texts
    tests: Mapping[str, Texts] = field(default_factory=dict)
    slots: Mapping[str, Sequence[str]] = field(default_factory=dict)
    origin: tuple[Mapping[str, str], ...] = ()


def find_data(
    which: str | Path,
    seed: int,
    per_template: int | None = None,
    text_column: str = "text",
    label_column: str = "label",
) -> Data:
    """`smart-home`, with `per_template` sentences of each template, or a file of texts (`texts.read_texts`).

    `seed` divides them into roles. Raises TextsInvalid, SourceUnavailable.
    """
    if which == SMART_HOME:
        return smart_home(homes.split(seed, per_template))
    return user_texts(read_texts(which, text_column, label_column, 2 * _LEAST), Path(which).stem, seed)


def smart_home(parts: homes.Split) -> Data:
    """The smart-home commands; no template stands in two roles."""

    def texts(commands: tuple[homes.Command, ...]) -> Texts:
        return Texts(tuple(c.text for c in commands), tuple(c.label for c in commands))

    templates = sorted({c.template for c in parts.validation})
    first = set(templates[::2])
    return Data(
        "smart-home commands",
        texts(parts.public),
        texts(tuple(c for c in parts.validation if c.template in first)),
        texts(tuple(c for c in parts.validation if c.template not in first)),
        {"unseen": texts(parts.unseen)},
        PUBLIC,
        (HOME_ASSISTANT_INTENTS.entry,),
    )


def user_texts(texts: Texts, name: str, seed: int) -> Data:
    """A user's texts, divided without leaks. Raises TextsInvalid if there are too few."""
    share = min(0.5, max(3 * _LEAST / len(texts.texts), min(_HELD_OUT, _ENOUGH / len(texts.texts))))
    train, rest = split_texts(texts, seed, share)
    validation, held_out = split_texts(rest, seed + 1, 0.5)
    if min(len(validation.texts), len(held_out.texts)) < _LEAST:
        raise TextsInvalid(
            f"{len(texts.texts)} texts are too few: {_LEAST} must be held out to end the training and {_LEAST} to fit "
            "the confidence; give more texts of each label"
        )
    return Data(name, train, validation, held_out)
