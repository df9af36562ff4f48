"""Small talk between people: the text of the causal students, from the package `chitchat-dataset`.

People, not conversations, are divided into the roles: a conversation belongs to a role if everybody in it does, and
those between roles are left out. So nobody whose words are held out was heard in training.
"""

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tasuki.converter.causal_texts import Corpus
from tasuki.converter.sources import CHITCHAT, fetch
from tasuki.sdk.errors import ConversionError

# Shares of the people. A conversation has two, so a role gets about the square of its share of the conversations.
ROLES: Final = {"train": 0.5, "validation": 0.2, "held_out": 0.3}
# What a maker of devices might have, and what a teacher reads in minutes.
_TRAIN: Final = 360
# As the manifest names it.
ORIGIN: Final = CHITCHAT.entry
_LEAST: Final = 200
_MOST: Final = 3000
# Different words as a share of all; people's talk has a third and more.
_VARIED: Final = 0.25


def conversations(seed: int = 0) -> Corpus:
    """The dataset divided by `seed`, one turn a line, each role in a random order; 360 conversations for training,
    some 150,000 tokens. Raises SourceUnavailable, ConversionError.
    """
    found = divide(_read(fetch(CHITCHAT) / "chitchat_dataset" / "dataset.json"), seed)
    return replace(found, train=found.train[:_TRAIN])


def divide(dataset: Mapping[str, Mapping[str, Any]], seed: int) -> Corpus:
    """Conversations by role; no role shares a speaker with another.

    `dataset` maps an id to an object with ``messages``: turns, which are lists of ``text`` and ``sender``.
    Conversations below 200 characters are left out, and those that repeat few words; long ones are cut at 3000.
    """
    found = {key: list(value["messages"]) for key, value in sorted(dataset.items())}
    speakers = {key: {message["sender"] for turn in turns for message in turn} for key, turns in found.items()}
    role_of, rng = _roles(set().union(*speakers.values()), seed)
    said: dict[str, list[str]] = {role: [] for role in ROLES}
    keys = list(found)
    rng.shuffle(keys)
    for key in keys:
        roles = {role_of[person] for person in speakers[key]}
        text = _written(found[key])
        if len(roles) == 1 and _is_talk(text):
            said[roles.pop()].append(text)
    return Corpus(**{role: tuple(texts) for role, texts in said.items()})


def roles(dataset: Mapping[str, Mapping[str, Any]], seed: int) -> dict[str, str]:
    """The role of each person in `dataset`, as `divide` has it."""
    turns = (turn for conversation in dataset.values() for turn in conversation["messages"])
    return _roles({message["sender"] for turn in turns for message in turn}, seed)[0]


def _roles(people: Iterable[str], seed: int) -> tuple[dict[str, str], random.Random]:
    """Who has which role, and the generator as that left it."""
    rng = random.Random(seed)  # noqa: S311  (no secret)
    shuffled = sorted(people)
    rng.shuffle(shuffled)
    role_of: dict[str, str] = {}
    start = 0.0
    for role, share in ROLES.items():
        role_of |= dict.fromkeys(shuffled[round(start * len(shuffled)) : round((start + share) * len(shuffled))], role)
        start += share
    return role_of, rng


def _written(turns: Sequence[Sequence[Mapping[str, str]]]) -> str:
    lines = (" ".join(" ".join(message["text"].split()) for message in turn).strip() for turn in turns)
    text = "".join(f"{line}\n" for line in lines if line)
    if len(text) <= _MOST:
        return text
    return (text[:_MOST].rpartition(" ")[0] or text[: _MOST - 1]) + "\n"


def _is_talk(text: str) -> bool:
    """Some people hold a key down, or let a program write for them."""
    words = text.split()
    return len(text) >= _LEAST and len(set(words)) >= _VARIED * len(words)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConversionError(f"{path.name} of {CHITCHAT.requirement} can't be read: {error}") from None
    if not isinstance(found, dict):
        raise ConversionError(f"{path.name} of {CHITCHAT.requirement} is no object")
    return found
