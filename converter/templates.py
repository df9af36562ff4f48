"""Smart-home command templates of the package `home-assistant-intents`, and seeded sampling of their sentences."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from hassil.expression import (
    Alternative,
    Expression,
    Group,
    ListReference,
    Permutation,
    RuleReference,
    Sentence,
    TextChunk,
)
from hassil.intents import Intents, RangeSlotList, TextSlotList

from tasuki.converter.sources import HOME_ASSISTANT_INTENTS, fetch


@dataclass(frozen=True)
class Template:
    """One sentence template of one intent; `key` is unique, e.g. ``turn_on/17``."""

    key: str
    label: str
    text: str
    expression: Expression = field(repr=False, compare=False)
    rules: Mapping[str, Sentence] = field(repr=False, compare=False)


class TemplateBook:
    """All English templates and the value lists that hassil defines for them."""

    def __init__(self, path: Path) -> None:
        self._intents = Intents.from_dict(json.loads(path.read_text(encoding="utf-8")))

    @cached_property
    def templates(self) -> tuple[Template, ...]:
        found = []
        for name, intent in self._intents.intents.items():
            label = _label(name)
            number = 0
            for block in intent.data:
                rules = {**self._intents.expansion_rules, **(block.expansion_rules or {})}
                for sentence in block.sentences:
                    found.append(Template(f"{label}/{number}", label, sentence.text, sentence.expression, rules))
                    number += 1
        return tuple(found)

    def sample(self, template: Template, names: Mapping[str, Sequence[str]], rng: random.Random) -> str:
        """One random sentence of `template`; `names` fills the open slots (areas, devices, items ...)."""
        return " ".join(self._expand(template.expression, template.rules, names, rng).lower().split())

    def _expand(
        self,
        part: Expression,
        rules: Mapping[str, Sentence],
        names: Mapping[str, Sequence[str]],
        rng: random.Random,
    ) -> str:
        if isinstance(part, TextChunk):
            return str(part.original_text)
        if isinstance(part, RuleReference):
            return self._expand(rules[part.rule_name].expression, rules, names, rng)
        if isinstance(part, ListReference):
            return self._value(part.list_name, rules, names, rng)
        if not isinstance(part, Group):
            raise TypeError(f"hassil expression {type(part).__name__} is not known here")
        if isinstance(part, Alternative):
            return self._expand(rng.choice(part.items), rules, names, rng)
        items = list(part.items)
        if isinstance(part, Permutation):
            rng.shuffle(items)
            return " ".join(self._expand(item, rules, names, rng) for item in items)
        return "".join(self._expand(item, rules, names, rng) for item in items)

    def _value(
        self, name: str, rules: Mapping[str, Sentence], names: Mapping[str, Sequence[str]], rng: random.Random
    ) -> str:
        if name in names:
            return rng.choice(names[name])
        values = self._intents.slot_lists[name]
        if isinstance(values, RangeSlotList):
            return str(rng.randrange(values.start, values.stop + 1, values.step))
        if isinstance(values, TextSlotList):
            return self._expand(rng.choice(values.values).text_in, rules, names, rng)
        raise ValueError(f"the slot list {{{name}}} has no values: add it to lexicon.py")


def _label(intent: str) -> str:
    """``HassTurnOn`` -> ``turn_on``."""
    words = intent.removeprefix("Hass")
    return "".join("_" + c.lower() if c.isupper() and i else c.lower() for i, c in enumerate(words))


def load_templates() -> TemplateBook:
    """The templates of the pinned package. Raises SourceUnavailable when it can't be had."""
    return TemplateBook(fetch(HOME_ASSISTANT_INTENTS) / "home_assistant_intents" / "data" / "en.json")
