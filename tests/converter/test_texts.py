"""Texts from files: what is read, what is refused with its line, and divisions without leaks."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasuki.converter import texts as module
from tasuki.converter.texts import Texts, check_language, normalised, read_texts, split_texts
from tasuki.sdk.errors import TextsInvalid


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_text_a_line(tmp_path: Path) -> None:
    content = "\ufeffturn on\r\n\r\n  turn off \nline\u2028separator, tab\there\n"
    found = read_texts(write(tmp_path, "a.txt", content))
    assert found == Texts(("turn on", "turn off", "line\u2028separator, tab\there"), None)


def test_csv(tmp_path: Path) -> None:
    content = (
        'id,text,label\r\n1,"dim, please",light\r\n2,"two\nlines",other\r\n\r\n3, ,light\r\n4,"say ""hi""",other\r\n'
    )
    found = read_texts(write(tmp_path, "a.csv", content))
    assert found == Texts(("dim, please", "two\nlines", 'say "hi"'), ("light", "other", "other"))
    path = write(tmp_path, "b.csv", "utterance,intent\non,x\noff,y\n")
    assert read_texts(path, "utterance", "intent") == Texts(("on", "off"), ("x", "y"))
    assert read_texts(path, "utterance") == Texts(("on", "off"), None)


def test_jsonl(tmp_path: Path) -> None:
    content = '{"text": "on", "label": 1, "more": []}\n\n{"text": "öff\\u2028", "label": "zero"}'
    assert read_texts(write(tmp_path, "a.jsonl", content)) == Texts(("on", "öff"), ("1", "zero"))
    content = '{"text": "on", "label": null}\n{"text": "off"}\n'
    assert read_texts(write(tmp_path, "b.jsonl", content)) == Texts(("on", "off"), None)


@given(st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.text("ab ", max_size=9))))
def test_jsonl_and_memory_agree(tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]) -> None:
    pairs = [("first", "a"), *((text, label) for text, label in pairs if label.strip())]
    path = tmp_path_factory.getbasetemp() / "pairs.jsonl"
    path.write_text("".join(json.dumps({"text": t, "label": n}) + "\n" for t, n in pairs), encoding="utf-8")
    kept = [(text.strip(), label.strip()) for text, label in pairs if text.strip()]
    assert read_texts(path) == Texts(tuple(t for t, _ in kept), tuple(n for _, n in kept))


REFUSED = [
    ("a.tsv", "x", r"texts are read from \.txt, \.csv, \.jsonl"),
    ("a.txt", "", "is empty"),
    ("a.txt", " \n\n", "is empty"),
    ("a.txt", b"on\noff\n\xe9t\xe9\n", "line 3: not UTF-8"),
    ("a.txt", "on\n" + "x" * 65537, "line 2: the text is longer than 65,536 bytes"),
    ("a.txt", "on\n" + "é" * 32769, "line 2: the text is longer"),
    ("a.csv", "utterance,label\non,x\n", "no column 'text' among 'utterance', 'label'"),
    ("a.csv", "text,label\n", "0 usable texts, at least 1"),
    ("a.csv", "text,label\non,x\noff,\n", "line 3: some texts have labels and some none"),
    ("a.csv", 'text,label\n"two\nlines",\noff,x\n', "line 4: some texts have labels and some none"),
    ("a.csv", "text,label\non,x,y\n", "line 2: 3 columns, the header has 2"),
    ("a.csv", 'text\n"on\noff\n', "line 2: .*quotes"),
    ("a.csv", "text\n" + "x" * 200_000, "line 2"),
    ("a.csv", "text,label\non," + "x" * 65, "line 2: the label is longer than 64 bytes"),
    ("a.jsonl", '{"text": "on"}\n{"text": \n', "line 2: not JSON"),
    ("a.jsonl", "[" * 100_000, "line 1: not JSON"),
    ("a.jsonl", '{"text": "on"}\n["off"]\n', "line 2: no object with a string 'text'"),
    ("a.jsonl", '{"text": 5}\n', "line 1: no object with a string 'text'"),
    ("a.jsonl", '{"text": "on", "label": true}\n', "line 1: 'label' must be a string"),
    ("a.jsonl", '{"text": "on", "label": "x"}\n{"text": "off"}\n', "line 2: some texts have labels"),
    ("a.jsonl", '{"text": "\\ud800"}\n', "line 1: the text is no valid Unicode"),
]


@pytest.mark.parametrize(("name", "content", "words"), REFUSED)
def test_refused_with_the_line(tmp_path: Path, name: str, content: str | bytes, words: str) -> None:
    with pytest.raises(TextsInvalid, match=words) as caught:
        read_texts(write(tmp_path, name, content))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_too_few(tmp_path: Path) -> None:
    with pytest.raises(TextsInvalid, match="there is no file"):
        read_texts(tmp_path / "none.txt")
    with pytest.raises(TextsInvalid, match="2 usable texts, at least 3"):
        read_texts(write(tmp_path, "a.txt", "on\noff\n\n"), least=3)


def test_a_file_over_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 10)
    with pytest.raises(TextsInvalid, match="has 11 bytes, at most 10"):
        read_texts(write(tmp_path, "a.txt", "x" * 11))


words = st.lists(st.sampled_from(["on", "ON", "off", "lamp", "Lamp", "the  lamp", "dim"]), min_size=1, max_size=4)


@given(st.lists(st.tuples(words.map(" ".join), st.sampled_from("abc")), min_size=2, max_size=60), st.integers())
def test_no_copy_on_the_other_side(pairs: list[tuple[str, str]], seed: int) -> None:
    texts = Texts(tuple(text for text, _ in pairs), tuple(label for _, label in pairs))
    try:
        train, held = split_texts(texts, seed, 0.3)
    except TextsInvalid:
        assert len({normalised(text) for text in texts.texts}) <= 3  # each label has one text at most
        return
    assert train.labels is not None
    assert held.labels is not None
    assert not {normalised(t) for t in train.texts} & {normalised(t) for t in held.texts}
    both = [*zip(train.texts, train.labels, strict=True), *zip(held.texts, held.labels, strict=True)]
    assert sorted(both) == sorted(pairs)
    # The order of the file doesn't matter.
    mixed = Texts(texts.texts[::-1], (texts.labels or ())[::-1])
    assert split_texts(mixed, seed, 0.3)[1].texts == held.texts[::-1]


def test_every_label_has_its_share() -> None:
    count = {"often": 200, "seldom": 10, "once": 1}
    pairs = [(f"{label} {n}", label) for label, many in count.items() for n in range(many)]
    texts = Texts(tuple(t for t, _ in pairs), tuple(n for _, n in pairs))
    held = split_texts(texts, 1)[1]
    assert held.labels is not None
    assert {label: held.labels.count(label) for label in count} == {"often": 20, "seldom": 1, "once": 0}
    assert split_texts(texts, 2)[1] != held
    assert len(split_texts(Texts(texts.texts), 1)[1].texts) == 21


def test_nothing_to_hold_out() -> None:
    for texts in (Texts(("on", "On ")), Texts(("on", "off"), ("a", "b")), Texts(())):
        with pytest.raises(TextsInvalid, match="too few different texts"):
            split_texts(texts, 1)


def test_texts_in_another_language() -> None:
    known = {"turn": 2, "on": 3, "the": 4, "lamp": 5}

    def encode(text: str) -> list[int]:
        return [known.get(word, 1) for word in text.split()]

    assert check_language(["turn on the lamp", "lamp on"], encode, 1) == 0
    assert check_language(["turn on the big lamp"], encode, 1, limit=0.2) == 0.2
    with pytest.raises(TextsInvalid, match="does not know 100% of the pieces.*another language"):
        check_language(["schalte das licht ein"], encode, 1)
    with pytest.raises(TextsInvalid):
        check_language([], encode, 1)
