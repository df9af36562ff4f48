"""The user's texts: read from .txt, .csv and .jsonl, divided without leaks, and checked against a tokenizer.

Messages name the file and the line.
"""

import csv
import hashlib
import io
import json
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tasuki.sdk.classifier import MAX_TEXT_BYTES
from tasuki.sdk.errors import TextsInvalid
from tasuki.sdk.manifest import MAX_LABEL_BYTES

MAX_FILE_BYTES: Final = 256 << 20
_READABLE: Final = (".txt", ".csv", ".jsonl")
# A row of a file: line, text, label.
_Row = tuple[int, str, str | None]


@dataclass(frozen=True)
class Texts:
    """Texts in the order of their file, and their labels, if they have any."""

    texts: tuple[str, ...]
    labels: tuple[str, ...] | None = None


def read_texts(path: str | Path, text_column: str = "text", label_column: str = "label", least: int = 1) -> Texts:
    """The texts of a file in UTF-8: .txt (one a line), .csv (with a header) or .jsonl (one object a line).

    White space around a text is cut off, and empty ones are skipped. Either all texts have labels or none. Raises
    TextsInvalid: a missing, foreign or too large file, a missing column, a text over 64 KiB or a label over 64 bytes,
    and fewer than `least` texts.
    """
    path = Path(path)
    if path.suffix not in _READABLE:
        raise TextsInvalid(f"{path}: texts are read from {', '.join(_READABLE)}; save the file as one of them")
    content = _content(path)
    if path.suffix == ".txt":
        rows: Iterator[_Row] = ((n, line, None) for n, line in enumerate(content.split("\n"), 1))
    elif path.suffix == ".csv":
        rows = _csv_rows(path, content, text_column, label_column)
    else:
        rows = _json_rows(path, content, text_column, label_column)
    texts, labels, unlabelled = [], [], 0
    for line, text, label in rows:
        text, label = text.strip(), label.strip() if label else None
        if not text:
            continue
        if len(text) > MAX_TEXT_BYTES or _size(path, line, text) > MAX_TEXT_BYTES:
            raise TextsInvalid(f"{path}, line {line}: the text is longer than {MAX_TEXT_BYTES:,} bytes; split it")
        if label and _size(path, line, label) > MAX_LABEL_BYTES:
            raise TextsInvalid(f"{path}, line {line}: the label is longer than {MAX_LABEL_BYTES} bytes; shorten it")
        if label:
            labels.append(label)
        else:
            unlabelled = unlabelled or line
        if unlabelled and labels:
            raise TextsInvalid(f"{path}, line {line}: some texts have labels and some none; label all of them or none")
        texts.append(text)
    if len(texts) < least:
        raise TextsInvalid(f"{path} has {len(texts)} usable texts, at least {least} are needed; add some")
    return Texts(tuple(texts), tuple(labels) if labels else None)


def split_texts(texts: Texts, seed: int, held_out: float = 0.1) -> tuple[Texts, Texts]:
    """Divide into texts for training and the share `held_out`, of every label where there are labels.

    Texts that differ only in case, width of letters or white space stay together, so no copy of a held-out text is
    trained on. Both sides keep the order. The same texts and seed give the same division, whatever their order. A label
    of one text is not held out. Raises TextsInvalid if nothing could be held out.
    """
    if not 0 < held_out < 1:
        raise ValueError("held_out must lie between 0 and 1")
    keys = [normalised(text) for text in texts.texts]
    # One text may stand under two labels; its copies go with the first of them by name.
    stratum: dict[str, str] = {}
    for key, label in zip(keys, texts.labels or [""] * len(keys), strict=True):
        stratum[key] = min(stratum.get(key, label), label)
    groups: dict[str, list[str]] = defaultdict(list)
    for key, label in stratum.items():
        groups[label].append(key)
    held: set[str] = set()
    for members in groups.values():
        members.sort(key=lambda key: hashlib.sha256(f"{seed}\0{key}".encode()).digest())
        if len(members) > 1:
            held.update(members[: min(max(round(held_out * len(members)), 1), len(members) - 1)])
    if not held:
        raise TextsInvalid("there are too few different texts to hold some out: at least two, of a label if labelled")
    return _chosen(texts, [key not in held for key in keys]), _chosen(texts, [key in held for key in keys])


def normalised(text: str) -> str:
    """The text by which copies are recognised: NFKC, without case, one blank between words."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def check_language(
    texts: Sequence[str], encode: Callable[[str], Sequence[int]], unknown: int, limit: float = 0.1
) -> float:
    """The share of pieces that the tokenizer does not know. Raises TextsInvalid if it is above `limit`.

    `encode` gives the ids of a text without padding or special ones, `unknown` is the id for what it doesn't know. A
    byte-level tokenizer knows everything, so this can't tell for it.
    """
    ids = [piece for text in texts for piece in encode(text)]
    share = ids.count(unknown) / len(ids) if ids else 1.0
    if share > limit:
        raise TextsInvalid(
            f"the tokenizer does not know {share:.0%} of the pieces of these texts, at most {limit:.0%} may be; "
            "they seem to be in another language: use texts in the model's"
        )
    return share


def _chosen(texts: Texts, wanted: Sequence[bool]) -> Texts:
    def pick(values: Sequence[str]) -> tuple[str, ...]:
        return tuple(value for value, take in zip(values, wanted, strict=True) if take)

    return Texts(pick(texts.texts), None if texts.labels is None else pick(texts.labels))


def _content(path: Path) -> str:
    if not path.is_file():
        raise TextsInvalid(f"there is no file {path}")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise TextsInvalid(f"{path} has {size:,} bytes, at most {MAX_FILE_BYTES:,}; take a sample of it")
    raw = path.read_bytes()
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise TextsInvalid(f"{path}, line {line}: not UTF-8; save the file in UTF-8") from None
    if not content.strip():
        raise TextsInvalid(f"{path} is empty")
    return content


def _csv_rows(path: Path, content: str, text_column: str, label_column: str) -> Iterator[_Row]:
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    start = 1
    try:
        header = [name.strip() for name in next(reader, [])]
        if text_column not in header:
            raise TextsInvalid(f"{path}, line 1: no column {text_column!r} among {_listed(header)}; name the right one")
        text_at = header.index(text_column)
        label_at = header.index(label_column) if label_column in header else None
        start = reader.line_num + 1
        for row in reader:
            if row and len(row) != len(header):
                raise TextsInvalid(
                    f"{path}, line {start}: {len(row)} columns, the header has {len(header)}; quote texts with commas"
                )
            if row:
                yield start, row[text_at], None if label_at is None else row[label_at]
            start = reader.line_num + 1
    except csv.Error as error:
        raise TextsInvalid(f"{path}, line {start}: {error}; check the quotes") from None


def _listed(names: Sequence[str]) -> str:
    words = ", ".join(map(repr, names))
    return words if len(words) <= 200 else words[:197] + "..."


def _json_rows(path: Path, content: str, text_column: str, label_column: str) -> Iterator[_Row]:
    for line, raw in enumerate(content.split("\n"), 1):
        if not raw.strip():
            continue
        try:
            row = json.loads(raw)
        except (ValueError, RecursionError):
            raise TextsInvalid(f"{path}, line {line}: not JSON; every line must be one object") from None
        if not isinstance(row, dict) or not isinstance(row.get(text_column), str):
            raise TextsInvalid(f"{path}, line {line}: no object with a string {text_column!r}; or name another column")
        label = row.get(label_column)
        if label is not None and (isinstance(label, bool) or not isinstance(label, str | int)):
            raise TextsInvalid(f"{path}, line {line}: {label_column!r} must be a string")
        yield line, row[text_column], None if label is None else str(label)


def _size(path: Path, line: int, text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can write
        raise TextsInvalid(f"{path}, line {line}: the text is no valid Unicode; repair it") from None
