"""Next words of one's own: what a causal model gains by learning from its user, on what the user says later.

The people are held-out ones of the chat dataset: neither the student nor its teacher heard a word of theirs. The first
four fifths of what somebody wrote are learned in their order, the rest is scored before and after.
"""

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from tasuki.converter import chat
from tasuki.converter.distil import Progress
from tasuki.converter.sources import CHITCHAT, fetch
from tasuki.sdk import Device
from tasuki.sdk.errors import InputError

PEOPLE: Final = 20
LEAST: Final = 60
MOST: Final = 150
_LEARNED: Final = 0.8


def run(file: Path, role: str, people: int, progress: Progress) -> dict[str, Any]:
    """Figures of `people` people of the role `role` with the causal artifact at `file`."""
    found = []
    talkers = _talkers(role)[:people]
    with tempfile.TemporaryDirectory(prefix="tasuki-words-") as work:
        for number, texts in enumerate(talkers):
            progress("words", number, len(talkers), "")
            with Device.open(file, Path(work) / str(number)) as device:
                found.append(_one(device, texts))
    progress("words", len(talkers), len(talkers), "")
    gains = np.array([(before - after) / tokens for before, after, tokens, _ in found])
    before, after, tokens = (sum(person[at] for person in found) for at in range(3))
    return {
        "words_people": len(found),
        "words_tokens": tokens,
        "words_perplexity_before": float(np.exp(before / tokens)),
        "words_perplexity_after": float(np.exp(after / tokens)),
        "words_gain_least_nats": float(gains.min()),
        "words_worse_people": int((gains < 0).sum()),
        "words_local_people": sum(local for *_, local in found),
    }


def _one(device: Device, texts: list[str]) -> tuple[float, float, int, bool]:
    """Nats before and after, tokens, and whether the local adapter speaks."""
    # Asked before anything is learned: a score waits for the fit of what was.
    texts = [text for text in texts if _scored(device, text)]
    learned = int(_LEARNED * len(texts))
    later = texts[learned:]
    before = [device.score(text) for text in later]
    for text in texts[:learned]:
        device.learn(text, durable=False)
    after = [device.score(text) for text in later]
    local = device.status()["answers"] == "local"
    return sum(s.nats for s in before), sum(s.nats for s in after), sum(s.tokens for s in before), local


def _scored(device: Device, text: str) -> bool:
    try:
        return device.score(text).tokens > 0
    except InputError:
        return False


def _talkers(role: str) -> list[list[str]]:
    """What each person of a role wrote, in time, at least 60 and at most 150 messages; by the person's id."""
    dataset = json.loads((fetch(CHITCHAT) / "chitchat_dataset" / "dataset.json").read_bytes())
    roles = chat.roles(dataset, 0)
    said: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for conversation in dataset.values():
        for turn in conversation["messages"]:
            for message in turn:
                if roles[message["sender"]] == role and message["text"].strip():
                    said[message["sender"]].append((message.get("timestamp", 0), message["text"]))
    chosen = [person for person in sorted(said) if len(said[person]) >= LEAST]
    return [[text for _, text in sorted(said[person])][:MOST] for person in chosen]
