"""Who says what: the split of smart-home templates into roles, and homes with commands of their own.

Roles are disjoint sets of templates (a template is one way of phrasing one intent):

- ``public``      trains the teacher's head and the student
- ``validation``  chooses between students and fits the temperature; part of no training
- ``private``     the homes' repertoires; the student never sees them
- ``gateway``     the gateway judges candidates on them
- ``unseen``      nobody trains or judges on them: the test of unseen phrasings

A sentence that two roles or two intents could produce is dropped everywhere.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasuki.converter.lexicon import PRIVATE, PUBLIC
from tasuki.converter.templates import Template, TemplateBook, load_templates

# Intents that the student never sees: each home owns a few and learns them by itself.
OWN_LABELS = (
    "broadcast", "cancel_all_timers", "get_current_date", "get_current_time", "lawn_mower_start_mowing",
    "list_add_item",
    "list_complete_item", "list_remove_item", "media_player_mute", "media_player_unmute", "shopping_list_add_item",
    "shopping_list_complete_item", "vacuum_start",
)  # fmt: skip
# Too few sentences to split or to test.
LEFT_OUT = ("nevermind", "vacuum_return_to_base")
# Shares of an intent's templates; every role gets at least one where the intent has that many.
ROLES = {"public": 0.48, "private": 0.24, "unseen": 0.14, "gateway": 0.08, "validation": 0.06}
PER_TEMPLATE = {"public": 40, "validation": 12, "gateway": 12, "unseen": 12}


@dataclass(frozen=True)
class Command:
    """A sentence, its intent and the key of the template that produced it."""

    text: str
    label: str
    template: str


@dataclass(frozen=True)
class Split:
    """Commands by role, and the templates from which homes draw; `labels` are the public intents, sorted."""

    seed: int
    labels: tuple[str, ...]
    public: tuple[Command, ...]
    validation: tuple[Command, ...]
    gateway: tuple[Command, ...]
    unseen: tuple[Command, ...]
    private: tuple[Template, ...]
    own: tuple[Template, ...]
    book: TemplateBook


@dataclass(frozen=True)
class Home:
    """One home: what it says in each round, and what it says later (its test)."""

    name: str
    own_labels: tuple[str, ...]
    rounds: tuple[tuple[Command, ...], ...]
    later: tuple[Command, ...]


def split(seed: int, per_template: int | None = None) -> Split:
    """Split the templates into roles and sample their sentences; `per_template` bounds the public ones."""
    rng = random.Random(f"split {seed}")
    book = load_templates()
    by_label: dict[str, list[Template]] = defaultdict(list)
    for template in book.templates:
        if template.label not in LEFT_OUT:
            by_label[template.label].append(template)
    own = tuple(t for label in OWN_LABELS for t in by_label.pop(label))
    roles: dict[str, list[Template]] = {role: [] for role in ROLES}
    for label in sorted(by_label):
        for role, chosen in _divide(by_label[label], rng).items():
            roles[role].extend(chosen)
    counts = {**PER_TEMPLATE, **({"public": per_template} if per_template else {})}
    said = {role: [c for t in roles[role] for c in _say(book, t, PUBLIC, counts[role], rng)] for role in counts}
    said = _without_shared(said)
    return Split(
        seed=seed,
        labels=tuple(sorted(by_label)),
        public=tuple(said["public"]),
        validation=tuple(said["validation"]),
        gateway=tuple(said["gateway"]),
        unseen=tuple(said["unseen"]),
        private=tuple(roles["private"]),
        own=own,
        book=book,
    )


def homes(
    parts: Split,
    count: int,
    seed: int,
    rounds: int = 5,
    per_round: int = 16,
    later: int = 80,
    own_share: float = 0.15,
) -> tuple[Home, ...]:
    """`count` homes with skewed private data: own names, favourite intents, repertoires and intents of their own.

    A home's `later` commands share no sentence with its rounds, nor with any other home's rounds.
    """
    taken = {c.text for c in (*parts.public, *parts.validation, *parts.gateway, *parts.unseen)}
    drawn = [_Household(parts, f"home-{i:02d}", random.Random(f"home {parts.seed} {seed} {i}"), own_share)
             for i in range(count)]  # fmt: skip
    lived = [h.speak(rounds * per_round, taken, distinct=False) for h in drawn]
    heard = taken | {c.text for commands in lived for c in commands}
    result = []
    for household, commands in zip(drawn, lived, strict=True):
        batches = tuple(tuple(commands[r * per_round : (r + 1) * per_round]) for r in range(rounds))
        test = household.speak(later, heard, distinct=True)
        result.append(Home(household.name, household.own_labels, batches, tuple(test)))
    return tuple(result)


class _Household:
    def __init__(self, parts: Split, name: str, rng: random.Random, own_share: float) -> None:
        self.name = name
        self._book = parts.book
        self._rng = rng
        self._own_share = own_share
        own_by_label: dict[str, list[Template]] = defaultdict(list)
        for template in parts.own:
            own_by_label[template.label].append(template)
        self.own_labels = tuple(sorted(rng.sample(sorted(own_by_label), 3)))
        self._own = {label: own_by_label[label] for label in self.own_labels}
        by_label: dict[str, list[Template]] = defaultdict(list)
        for template in parts.private:
            by_label[template.label].append(template)
        # Favourite intents: weights of a symmetric Dirichlet(0.7), that is normalised gamma variates.
        self._labels = sorted(by_label)
        self._weights = [rng.gammavariate(0.7, 1.0) + 0.02 for _ in self._labels]
        # A repertoire: about half of the private phrasings, used with a long tail.
        self._repertoire = {label: rng.sample(ts, (len(ts) + 1) // 2) for label, ts in sorted(by_label.items())}
        sizes = {"area": 6, "name": 8}
        self._names: Mapping[str, Sequence[str]] = {
            slot: rng.sample(values, min(len(values), sizes.get(slot, 5))) for slot, values in PRIVATE.items()
        }

    def speak(self, count: int, avoid: set[str], distinct: bool) -> list[Command]:
        said: list[Command] = []
        heard = set(avoid)
        attempts = 0
        while len(said) < count:
            attempts += 1
            if attempts > 200 * count:
                raise ValueError(f"{self.name} has too few sentences for {count} commands")
            template = self._choose()
            names = self._names
            if template.label.startswith("list_"):
                names = {**names, "name": names["list_name"]}
            text = self._book.sample(template, names, self._rng)
            if text in heard:
                continue
            if distinct:
                heard.add(text)
            said.append(Command(text, template.label, template.key))
        return said

    def _choose(self) -> Template:
        if self._rng.random() < self._own_share:
            label = self._rng.choice(self.own_labels)
            return self._rng.choice(self._own[label])
        (label,) = self._rng.choices(self._labels, self._weights)
        known = self._repertoire[label]
        (template,) = self._rng.choices(known, [1.0 / (rank + 1) for rank in range(len(known))])
        return template


def _divide(templates: Sequence[Template], rng: random.Random) -> dict[str, list[Template]]:
    """Shares of `ROLES`, largest remainder, at least one each while they last (in the order of `ROLES`)."""
    order = rng.sample(list(templates), len(templates))
    total = len(order)
    sizes = {role: int(total * share) for role, share in ROLES.items()}
    for role in ROLES:
        if sizes[role] == 0 and sum(sizes.values()) < total:
            sizes[role] = 1
    sizes["public"] += total - sum(sizes.values())
    divided, start = {}, 0
    for role, size in sizes.items():
        divided[role] = order[start : start + size]
        start += size
    return divided


def _say(
    book: TemplateBook, template: Template, names: Mapping[str, Sequence[str]], count: int, rng: random.Random
) -> list[Command]:
    texts = sorted({book.sample(template, names, rng) for _ in range(count)})
    return [Command(text, template.label, template.key) for text in texts if text]


def _without_shared(said: Mapping[str, Sequence[Command]]) -> dict[str, list[Command]]:
    """Drop every sentence that stands in two roles or under two intents; keep one copy inside a role."""
    places = Counter(text for commands in said.values() for text in {c.text for c in commands})
    labels: dict[str, set[str]] = defaultdict(set)
    for commands in said.values():
        for command in commands:
            labels[command.text].add(command.label)
    kept: dict[str, list[Command]] = {}
    for role, commands in said.items():
        once: dict[str, Command] = {}
        for command in commands:
            if places[command.text] == 1 and len(labels[command.text]) == 1:
                once.setdefault(command.text, command)
        kept[role] = list(once.values())
    return kept
