"""The shipped concept set, and what a concept file of the user's own may and may not hold."""

from __future__ import annotations

import logging
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cm_server.concepts import CATEGORIES, ConceptFileError, ConceptSet, load_concepts
from cm_server.concepts.concept_set import _parse


def write(folder: Path, content: str | bytes, name: str = "mine.csv") -> Path:
    """Write a concept file and return its path."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_shipped_set_has_the_promised_size_and_categories() -> None:
    concepts = load_concepts()
    counts = Counter(concepts.categories)
    assert 1100 <= len(concepts) <= 1300
    assert set(counts) == set(CATEGORIES)
    bounds = {"color": 40, "texture": 70, "material": 80, "part": 160, "object": 500, "scene": 230}
    assert all(counts[category] >= least for category, least in bounds.items()), counts


def test_shipped_words_are_unique_clean_and_lower_case() -> None:
    words = load_concepts().words
    assert [word for word in words if not re.fullmatch(r"[a-z]+(?:[ -][a-z]+)*", word)] == []
    folded = Counter(word.replace("-", "").replace(" ", "") for word in words)
    assert [word for word, count in folded.items() if count > 1] == []


def test_shipped_words_hold_no_singular_beside_its_plural() -> None:
    words = set(load_concepts().words)
    plurals = {word for word in words if word + "s" in words or word + "es" in words}
    assert plurals == set()


def test_shipped_set_names_the_fashion_classes() -> None:
    classes = {"t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"}
    assert classes <= set(load_concepts().words)


def test_shipped_set_loads_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load_concepts()
    assert caplog.records == []


def test_blank_lines_comments_and_header_shift_nothing(tmp_path: Path) -> None:
    text = "# mine\n\nword,category\n\nred,color\n   \n# a remark\ndog,object\n\n\nwheel\n"
    concepts = load_concepts(write(tmp_path, text))
    assert concepts == ConceptSet("mine", ("red", "dog", "wheel"), ("color", "object", None))


@pytest.mark.parametrize(
    "content",
    [
        "red,color\ndog,object\n",
        "\ufeffword,category\r\nred,color\r\ndog,object\r\n",
        "Word\tCategory\nred\tcolor\ndog\tobject",
        "  red ,  Color \n dog\t object\n",
        '"red",color\n"dog","object",\n',
    ],
    ids=["plain", "byte-order-mark-and-crlf", "tabs", "white-space-and-case", "quotes"],
)
def test_same_content_in_other_spelling_is_the_same_set(tmp_path: Path, content: str) -> None:
    concepts = load_concepts(write(tmp_path, content))
    assert (concepts.words, concepts.categories) == (("red", "dog"), ("color", "object"))


def test_word_list_without_categories_has_none(tmp_path: Path) -> None:
    concepts = load_concepts(write(tmp_path, "traffic light\nword\nconcept\n", "list.txt"))
    assert concepts == ConceptSet("list", ("traffic light", "word", "concept"), (None, None, None))


def test_repeated_words_keep_the_first_and_warn_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, "dog,object\nDog,part\ntraffic  light\ntraffic light\ncat\nDOG\n")
    with caplog.at_level(logging.WARNING):
        concepts = load_concepts(path)
    assert concepts.words == ("dog", "traffic light", "cat")
    assert concepts.categories == ("object", None, None)
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert all(part in message for part in (str(path), "3 word(s)", "Dog"))


def test_unknown_category_names_file_line_value_and_choice(tmp_path: Path) -> None:
    path = write(tmp_path, "word,category\n\nred,color\ndog,animal\n")
    with pytest.raises(ConceptFileError, match="line 4: unknown category 'animal' of 'dog'") as caught:
        load_concepts(path)
    assert str(path) in str(caught.value)
    assert all(category in str(caught.value) for category in CATEGORIES)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "holds no word"),
        ("\n# only a remark\n\n", "holds no word"),
        ("word,category\n", "holds no word"),
        ("red,color,bright\n", "line 1: 3 columns"),
        (",color\n", "line 1: no word"),
        (b"caf\xe9\n", "not UTF-8"),
        (b"a\x00b\n", "zero bytes"),
        ("x" * 200_000, "line 1: field larger"),
    ],
)
def test_unusable_files_are_refused_in_one_line(tmp_path: Path, content: str | bytes, words: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ConceptFileError, match=words) as caught:
        load_concepts(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConceptFileError, match="does not exist"):
        load_concepts(tmp_path / "absent.csv")
    with pytest.raises(ConceptFileError, match="cannot be read"):
        load_concepts(tmp_path)


def test_fingerprint_follows_words_categories_and_order_but_not_the_name() -> None:
    base = ConceptSet("a", ("red", "dog"), ("color", "object"))
    others = [
        ConceptSet("a", ("dog", "red"), ("object", "color")),
        ConceptSet("a", ("red", "dog"), ("color", None)),
        ConceptSet("a", ("red", "cat"), ("color", "object")),
        ConceptSet("a", ("red",), ("color",)),
    ]
    assert base.fingerprint == ConceptSet("b", base.words, base.categories).fingerprint
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_words_and_categories_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="2 words and 1 categories"):
        ConceptSet("a", ("red", "dog"), ("color",))


_WORD = st.from_regex(r"[a-z]{1,8}( [a-z]{1,8})?", fullmatch=True).filter(lambda word: word not in ("word", "concept"))
_ROWS = st.lists(st.tuples(_WORD, st.sampled_from((None, *CATEGORIES))), min_size=1, unique_by=lambda row: row[0])


@given(rows=_ROWS, gaps=st.lists(st.sampled_from(["", "  ", "# remark", "\t"]), min_size=1), tab=st.booleans())
def test_every_written_set_reads_back_the_same(rows: list[tuple[str, str | None]], gaps: list[str], tab: bool) -> None:
    separator = "\t" if tab else ","
    lines = []
    for index, (word, category) in enumerate(rows):
        lines += [gaps[index % len(gaps)], word if category is None else f"{word}{separator}{category}"]
    concepts = _parse("\n".join(lines), "written", "memory")
    assert list(zip(concepts.words, concepts.categories, strict=True)) == rows
