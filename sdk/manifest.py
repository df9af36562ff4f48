"""The artifact's manifest: a closed JSON object (SPEC.md, "Artifact"). All refusals are ValueError.

`check` holds for every field that a program acts on; `accuracy`, `calibration` and `notes` are for people, and only
their size, depth and numbers are bounded.
"""

import itertools
import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

FORMAT: Final = 3
# Format 2 admitted one kind to a classifier and none to a causal model, and is still read.
FORMATS: Final = (2, FORMAT)
TASKS: Final = ("classify", "causal")
TIERS: Final = ("mcu", "mcu-large", "board", "gateway")
ACTIVATIONS: Final = ("int8", "int16", "float")
ROUNDING: Final = "tflm"
# Which adapters each task admits, sorted.
ADAPTER_KINDS: Final = {"classify": ("bias", "head", "low_rank", "statistics"), "causal": ("bias", "low_rank")}
_KINDS_2: Final = {"classify": ["head"], "causal": []}
# What the converter writes for `low_rank`.
LOW_RANK: Final = {"rank": 8, "seed": 0}
MAX_LABELS: Final = 4096
MAX_LABEL_BYTES: Final = 64
MAX_FEATURES: Final = 4096
MAX_TOKENS: Final = 4096
MAX_VOCABULARY: Final = 1 << 20
MAX_OUTPUTS: Final = 1024
MAX_LEVELS: Final = 64
MAX_DEPTHS: Final = 64
MAX_LIST: Final = 1024
MAX_STOPS: Final = 64
MAX_NESTING: Final = 8
MAX_TEXT_BYTES: Final = 1024
# Keys and values of a decoder's cache, in elements.
MAX_CACHE: Final = 1 << 30
MAX_RANK: Final = 64
MAX_SEED: Final = (1 << 53) - 1
MAX_TENSORS: Final = 1 << 16
REQUIRED: Final = frozenset({
    "format", "name", "task", "tier", "tokens", "pad", "features", "logits", "labels", "adapter_kinds", "rounding",
    "activations", "temperature", "conformal", "operators", "shapes", "calibration", "origin", "accuracy", "parts",
})  # fmt: skip
OPTIONAL: Final = frozenset({"cache", "notes", "start", "stop"})
# From format 3 on.
OPTIONAL_3: Final = frozenset({"low_rank", "vocabulary"})
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_CACHE: Final = ("layers", "heads", "width", "context")


def write(fields: Mapping[str, Any]) -> bytes:
    """The one encoding: keys sorted, no white space, ASCII."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def read(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`: no key twice, no number that is not finite. Nothing else is checked."""
    fields = json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_finite, parse_float=_finite)
    if not isinstance(fields, dict):
        raise ValueError("the manifest is no object")
    return fields


def check(fields: Mapping[str, Any]) -> None:
    """The manifest is whole and makes sense; `parts` is the reader's to compare, and `format` is one of FORMATS."""
    newer = fields.get("format") != FORMATS[0]
    missing = REQUIRED - set(fields)
    unknown = set(fields) - REQUIRED - OPTIONAL - (OPTIONAL_3 if newer else set())
    if missing or unknown:
        raise ValueError(f"manifest keys missing: {sorted(missing)}, unknown: {sorted(unknown)}")
    task = fields["task"]
    _need(task in TASKS and fields["tier"] in TIERS, "task or tier")
    _need(_text(fields["name"]), "name")
    _need(_whole(fields["tokens"], 1, MAX_TOKENS), "tokens")
    _need(_whole(fields["pad"], 0, 2**31 - 1), "pad")
    if newer:
        _check_kinds(task, fields["adapter_kinds"], fields)
    else:
        _need(fields["adapter_kinds"] == _KINDS_2[task], "adapter_kinds")
    _need(fields["rounding"] == ROUNDING and fields["activations"] in ACTIVATIONS, "rounding or activations")
    _need(_number(fields["temperature"], 0.01, 100), "temperature")
    _check_outputs(task, fields["features"], fields["logits"], fields["labels"])
    _check_conformal(fields["conformal"])
    operators = fields["operators"]
    _need(_list(operators, 1) and all(map(_text, operators)) and operators == sorted(set(operators)), "operators")
    _check_shapes(fields["shapes"])
    _check_origin(fields["origin"])
    if "cache" in fields:
        _check_cache(task, fields["cache"])
    vocabulary = fields["logits"]["width"]
    _need("start" not in fields or (task == "causal" and _whole(fields["start"], 0, vocabulary - 1)), "start")
    _check_stop(task, fields.get("stop", []), vocabulary)
    if "vocabulary" in fields:
        _check_last_layer(task, fields["vocabulary"])
    for name in ("calibration", "accuracy", "notes", "parts"):
        _need(isinstance(fields.get(name, {}), dict), name)
    _shallow(fields, MAX_NESTING)


def _check_kinds(task: str, kinds: Any, fields: Mapping[str, Any]) -> None:
    _need(_list(kinds, 1) and all(kind in ADAPTER_KINDS[task] for kind in kinds), "adapter_kinds")
    _need(kinds == sorted(set(kinds)), "order of the adapter_kinds")
    _need(("low_rank" in kinds) == ("low_rank" in fields), "low_rank, which stands where adapter_kinds has it")
    if "low_rank" in fields:
        low_rank = fields["low_rank"]
        _need(_record(low_rank, "rank", "seed") and _whole(low_rank["rank"], 1, MAX_RANK), "rank of low_rank")
        _need(_whole(low_rank["seed"], 0, MAX_SEED), "seed of low_rank")


def _check_last_layer(task: str, layer: Any) -> None:
    _need(task == "causal" and (_record(layer, "weight") or _record(layer, "weight", "bias")), "vocabulary")
    _need(all(_whole(tensor, 0, MAX_TENSORS - 1) for tensor in layer.values()), "tensors of the vocabulary")
    _need(len(set(layer.values())) == len(layer), "a tensor of the vocabulary is named twice")


def _check_outputs(task: str, features: Any, logits: Any, labels: Any) -> None:
    _need(_list(features, 1, MAX_DEPTHS) and all(_record(f, "depth", "width", "output") for f in features), "features")
    depths = [f["depth"] for f in features]
    _need(all(_whole(depth, 0, 4096) for depth in depths) and depths == sorted(set(depths)), "depths of the features")
    _need(all(_whole(f["width"], 1, MAX_FEATURES) for f in features), "widths of the features")
    _need(sum(f["width"] for f in features) <= MAX_FEATURES, "number of features")
    _need(_record(logits, "output", "width") and _whole(logits["width"], 2, MAX_VOCABULARY), "logits")
    outputs = [f["output"] for f in features] + [logits["output"]]
    _need(all(_whole(output, 0, MAX_OUTPUTS - 1) for output in outputs), "outputs")
    _need(len(set(outputs)) == len(outputs), "an output is named twice")
    _need(isinstance(labels, list) and all(_text(label, MAX_LABEL_BYTES) for label in labels), "labels")
    if task == "classify":
        _need(2 <= len(set(labels)) == len(labels) <= MAX_LABELS, "number of labels")
        _need(len(labels) == logits["width"], "number of labels and of logits")
    else:
        _need(not labels, "labels of a causal model")


def _check_conformal(table: Any) -> None:
    _need(_list(table, 1, MAX_LEVELS), "conformal")
    for row in table:
        _need(isinstance(row, list) and len(row) == 2 and all(_number(n, 0, 1) for n in row), "conformal")
        _need(0 < row[0] < 1, "error level of a conformal threshold")
    for before, after in itertools.pairwise(table):
        _need(before[0] < after[0] and before[1] >= after[1], "order of the conformal thresholds")


def _check_shapes(shapes: Any) -> None:
    _need(isinstance(shapes, dict) and 1 <= len(shapes) <= MAX_LIST, "shapes")
    for name, shape in shapes.items():
        _need(_text(name) and _list(shape, 0, 8) and all(_whole(n, 1, 2**31 - 1) for n in shape), "shapes")


def _check_origin(origin: Any) -> None:
    _need(_list(origin, 1), "origin")
    for source in origin:
        kind = "file" if isinstance(source, dict) and "file" in source else "package"
        _need(_record(source, kind, "sha256", "licence", "origin") and all(map(_text, source.values())), "origin")
        _need(_SHA256.fullmatch(source["sha256"]) is not None, "hash of an origin")


def _check_cache(task: str, cache: Any) -> None:
    _need(task == "causal" and _record(cache, *_CACHE), "cache")
    _need(all(_whole(cache[name], 1, 1 << 20) for name in _CACHE), "cache")
    _need(2 * math.prod(cache[name] for name in _CACHE) <= MAX_CACHE, "size of the cache")


def _check_stop(task: str, stop: Any, vocabulary: int) -> None:
    _need(_list(stop, 0, MAX_STOPS) and all(_whole(token, 0, vocabulary - 1) for token in stop), "stop")
    _need(stop == sorted(set(stop)) and (task == "causal" or not stop), "stop")


def _need(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"the manifest's {what}")


def _whole(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _number(value: Any, low: float, high: float) -> bool:
    return type(value) in (int, float) and low <= value <= high


def _text(value: Any, bound: int = MAX_TEXT_BYTES) -> bool:
    return isinstance(value, str) and value.isprintable() and 1 <= len(value.encode()) <= bound


def _list(value: Any, low: int, high: int = MAX_LIST) -> bool:
    return isinstance(value, list) and low <= len(value) <= high


def _record(value: Any, *keys: str) -> bool:
    return isinstance(value, dict) and set(value) == set(keys)


def _shallow(value: Any, left: int) -> None:
    _need(left > 0, "nesting")
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            _shallow(item, left - 1)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _finite(word: str) -> float:
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(f"{word} is not a finite number")
    return number
