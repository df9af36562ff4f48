"""The heads that the protocol is measured on: the relay's, and one of 64 labels and 128 features.

The second has the same templates, roles and homes, but finer labels: an intent and what its command is about, which the
templates say themselves (`slot_combination`): ``turn_on`` an area, a floor, a device by name, all of a kind.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from tasuki.converter import build, distil, pack, student_folder
from tasuki.converter.build import Built, silent
from tasuki.converter.distil import Progress, StudentShape
from tasuki.converter.homes import Command, Split, split
from tasuki.converter.sources import HOME_ASSISTANT_INTENTS, MINILM_L6, cache_folder, fetch
from tasuki.converter.templates import Template

FINE_LABELS: Final = 64
FINE_SHAPE: Final = replace(build.SHAPE, width=128, inner=256)
# Raise one when a change of the code changes what comes out: of training, or of conversion alone.
_VERSION: Final = 1
_CONVERSION: Final = 3


@dataclass(frozen=True)
class Made:
    """An artifact, and the split that it was made of, with its labels."""

    name: str
    artifact: Path
    parts: Split


def relay(split_seed: int, quick: bool = False, progress: Progress = silent) -> Made:
    """The relay's student: 27 labels and 96 features."""
    found = build.build(split_seed, quick=quick, progress=progress)
    return Made("27x96", found.artifact, split(split_seed, build.recipe(quick=quick).per_template))


def fine(split_seed: int, quick: bool = False, progress: Progress = silent) -> Made:
    """The student of 64 labels and 128 features."""
    parts = relabelled(split(split_seed, build.recipe(quick=quick).per_template), scopes(), FINE_LABELS)
    return Made("64x128", _build(parts, FINE_SHAPE, quick, progress).artifact, parts)


HEADS: Final[Mapping[str, Callable[[int, bool, Progress], Made]]] = {"27x96": relay, "64x128": fine}


def scopes() -> dict[str, str]:
    """What each template's command is about, by the template's key: the first word of its `slot_combination`.

    Raises SourceUnavailable.
    """
    book = fetch(HOME_ASSISTANT_INTENTS) / "home_assistant_intents" / "data" / "en.json"
    found: dict[str, str] = {}
    for intent, content in json.loads(book.read_text(encoding="utf-8"))["intents"].items():
        blocks = content["data"]
        said = [block["metadata"]["slot_combination"] for block in blocks for _ in block["sentences"]]
        found |= {f"{_snake(intent)}/{number}": scope.split("_")[0] for number, scope in enumerate(said)}
    return found


def relabelled(parts: Split, about: Mapping[str, str], count: int) -> Split:
    """`parts` with `count` finer labels ``intent/scope``; own labels of the homes stay. Raises ValueError.

    The scopes with the most templates, public and private, get a label of their own, as long as one public scope stays
    under the intent's name. A sentence that several templates of an intent can say has the label of the one that said
    it here.
    """
    public: dict[str, Counter[str]] = defaultdict(Counter)
    sizes: Counter[tuple[str, str]] = Counter()
    for key in sorted({c.template for c in parts.public}):
        intent = _intent(key)
        public[intent][about[key]] += 1
        sizes[intent, about[key]] += 1
    for said in parts.private:
        if about[said.key] in public[said.label]:
            sizes[said.label, about[said.key]] += 1
    chosen: set[tuple[str, str]] = set()
    left = {intent: len(scopes) for intent, scopes in public.items()}
    for intent, scope in sorted(sizes, key=lambda pair: (-sizes[pair], pair)):
        if len(public) + len(chosen) < count and left[intent] > 1:
            chosen.add((intent, scope))
            left[intent] -= 1
    if len(public) + len(chosen) != count:
        raise ValueError(f"{len(public) + len(chosen)} labels can be told apart, not {count}")

    def label(key: str) -> str:
        pair = (_intent(key), about[key])
        return "/".join(pair) if pair in chosen else pair[0]

    def commands(given: Sequence[Command]) -> tuple[Command, ...]:
        return tuple(replace(c, label=label(c.template)) for c in given)

    def template(given: Template) -> Template:
        return replace(given, label=label(given.key))

    return replace(
        parts,
        labels=tuple(sorted({*public, *("/".join(pair) for pair in chosen)})),
        public=commands(parts.public),
        validation=commands(parts.validation),
        gateway=commands(parts.gateway),
        unseen=commands(parts.unseen),
        private=tuple(template(t) for t in parts.private),
    )


def _build(parts: Split, shape: StudentShape, quick: bool, progress: Progress) -> Built:
    """A student of `parts`, from the cache if it is there; made as the standard one is (`tasuki.converter.build`)."""
    wanted = build.recipe(quick=quick)
    about = [_VERSION, parts.seed, parts.labels, asdict(wanted), asdict(shape)]
    key = json.dumps([*about, MINILM_L6.sha256, HOME_ASSISTANT_INTENTS.sha256])
    folder = cache_folder() / "students" / hashlib.sha256(key.encode()).hexdigest()[:16]
    figures = folder / "figures.json"
    known: dict[str, Any] = json.loads(figures.read_text()) if figures.exists() else {}
    if known.get("conversion") == _CONVERSION:
        return Built(folder / "student.tflite", known, True)
    texts = distil.smart_home(parts)
    if not student_folder.is_student(folder):
        distil.save(distil.distil(distil.find_teacher("minilm"), texts, shape, wanted, progress, folder), folder)
    made, measured = build.convert(student_folder.load(folder), texts, progress)
    measured["conversion"] = _CONVERSION
    pack.write(folder / "student.tflite", made)
    pack.write(figures, json.dumps(measured, indent=1, sort_keys=True).encode())
    return Built(folder / "student.tflite", measured, False)


def _intent(key: str) -> str:
    """``turn_on/17`` -> ``turn_on``."""
    return key.rpartition("/")[0]


def _snake(intent: str) -> str:
    """``HassTurnOn`` -> ``turn_on``, as the templates' keys begin."""
    words = intent.removeprefix("Hass")
    return "".join("_" + c.lower() if c.isupper() and i else c.lower() for i, c in enumerate(words))
