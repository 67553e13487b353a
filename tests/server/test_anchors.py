"""Anchors that people add to a run: kept, followed, watched for; and questions in words."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plain_report import ARRAYS, SUMMARY

from cm_server import control, search
from cm_server.alert_desk import AlertDesk
from cm_server.anchor_desk import AnchorDesk, anchor_of
from cm_server.anchors import LONGEST, MOST, AnchorBook, AnchorError, UserAnchor, folded
from cm_server.cache import ArrayCache
from cm_server.concepts import load_concepts
from cm_server.encoders import make_encoder
from cm_server.questions import FOLDER, QuestionDesk, QuestionError, place_of
from cm_server.report import LayerReport, SnapshotReport
from cm_server.rules import RuleBook
from cm_server.stores.anchors import AnchorReader, AnchorWriter
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter
from cm_server.vocabulary import Vocabulary, build_vocabulary

ENCODER = make_encoder("planted")
COMMAND = {
    "do": "anchor", "run": "r", "word": " striped  fur ", "wish": "undesirable", "vector": [0.6, 0.8],
    "place": [1.5, -2.0], "encoder": "e1",
}  # fmt: skip


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    return build_vocabulary(ENCODER, load_concepts(), "pca", ArrayCache(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def store(tmp_path: Path):
    writer = StoreWriter(tmp_path)
    writer.save_run("r")
    reader = StoreReader(tmp_path)
    yield writer, reader
    reader.close()
    writer.close()


def test_an_anchor_is_kept_changed_and_removed_also_for_a_restarted_server(store) -> None:
    writer, reader = store
    heard: list[str] = []
    book = AnchorBook()
    desk = AnchorDesk(writer, reader, book, heard.append)
    assert desk.carry_out(COMMAND) == {"run": "r", "word": "striped fur"}
    (found,) = AnchorReader(reader.connection).of("r")
    assert (found.word, found.wish, found.place) == ("striped fur", "undesirable", (1.5, -2.0))
    assert found.vector.tolist() == pytest.approx([0.6, 0.8])
    desk.carry_out(COMMAND | {"wish": "wanted"})
    assert [a.wish for a in AnchorReader(reader.connection).of("r")] == ["wanted"], "the same word is one anchor"
    assert book.of("r", "another encoder") == ()
    again = AnchorBook()
    AnchorDesk(writer, reader, again, heard.append)
    assert [a.word for a in again.of("r", "e1")] == ["striped fur"]
    desk.carry_out({"do": "unanchor", "run": "r", "word": "striped fur"})
    assert AnchorReader(reader.connection).of("r") == () == book.of("r", "e1")
    assert heard == ["r", "r", "r"]
    with pytest.raises(AnchorError, match="no anchor 'striped fur'"):
        desk.carry_out({"do": "unanchor", "run": "r", "word": "striped fur"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"word": "  "}, "empty"),
        ({"word": "x" * (LONGEST + 1)}, f"{LONGEST} at most"),
        ({"word": "a\x07b"}, "cannot be shown"),
        ({"word": 7}, "give a text"),
        ({"wish": "hated"}, "wanted, undesirable"),
        ({"vector": [0.6, 0.9]}, "unit length"),
        ({"vector": ["0.6", 0.8]}, "no list"),
        ({"vector": []}, "no list"),
        ({"vector": [float("nan"), 1.0]}, "NaN"),
        ({"place": [1.0]}, "missing"),
        ({"encoder": None}, "missing"),
        ({"run": None}, "give its id"),
        ({"run": "other"}, "no run 'other'"),
    ],
)
def test_a_senseless_anchor_is_refused_in_words_and_changes_nothing(store, change: dict, said: str) -> None:
    writer, reader = store
    desk = AnchorDesk(writer, reader, AnchorBook(), lambda run: None)
    with pytest.raises(AnchorError, match=said):
        desk.carry_out(COMMAND | change)
    assert AnchorReader(reader.connection).of("r") == ()


def test_a_run_has_a_bounded_number_of_anchors(store) -> None:
    writer, _ = store
    tables = AnchorWriter(writer.transaction)
    for number in range(MOST):
        tables.save(anchor_of(COMMAND | {"word": f"word {number}"}, float(number)))
    with pytest.raises(AnchorError, match=f"{MOST} anchors already"):
        tables.save(anchor_of(COMMAND, 0.0))
    tables.save(anchor_of(COMMAND | {"word": "word 3", "wish": "wanted"}, 0.0))  # a known one may change


@given(st.text(max_size=150))
def test_a_word_is_folded_once_and_for_all_or_refused(text: str) -> None:
    try:
        word = folded(text)
    except AnchorError:
        return
    assert folded(word) == word
    assert 0 < len(word) <= LONGEST


def test_units_that_near_an_added_unwanted_word_raise_an_alert_that_says_since_when(store, tmp_path: Path) -> None:
    writer, reader = store
    told: list = []
    desk = AlertDesk(writer, reader, [], told.append, RuleBook({"warm_up_planned": 20}))
    anchors = AnchorDesk(writer, reader, AnchorBook(), desk.reconsider)
    noise = np.random.default_rng(0).normal(0, 0.001, 120)

    def take(step: int, words: dict[str, float]) -> None:
        summary = replace(SUMMARY, words=words)
        report = SnapshotReport("r", step, step, time.time(), time.time(), {"layer4": LayerReport(summary, ARRAYS)})
        writer.commit_snapshot(report)
        desk.report(report)

    for step in range(30):
        take(step, {})
    anchors.carry_out(COMMAND)
    for step in range(30, 110):
        take(step, {"striped fur": 0.9 - 0.004 * max(0, step - 55) + float(noise[step])})
    (alert,) = [alert for alert in told if alert.rule == "AnchorApproach"]
    assert alert.state == "firing"
    assert "nears “striped fur”" in alert.message
    assert "at step 30" in alert.message, "it was first measured there, not at the run's start"
    anchors.carry_out({"do": "unanchor", "run": "r", "word": "striped fur"})
    take(110, {})
    states = {a.rule: a.state for a in reader.alerts("r")}
    assert states["AnchorApproach"] == "ended", "an anchor that is gone watches no more"


@pytest.fixture
def asked(store, vocabulary: Vocabulary, tmp_path: Path):
    writer, _ = store
    writer.save_run("r", encoder="planted", map_fingerprint=vocabulary.map_fingerprint)
    desk = QuestionDesk(tmp_path, ENCODER, lambda: vocabulary, ArrayCache(tmp_path / "cache"))
    yield desk, writer
    desk.stop()


def ask(text: object = "dog", **more: object) -> dict:
    return {"ask": "near", "run": "r", "text": text, "count": 5} | more


def test_a_question_is_answered_as_the_search_command_answers_it(asked, vocabulary: Vocabulary) -> None:
    desk, _ = asked
    answer = desk.answer(ask("  night   sky "))
    query = search.embed("night sky", ENCODER, vocabulary)
    assert answer["text"] == "night sky"
    assert answer["vector"] == pytest.approx(query[0].tolist())
    assert [(i, word) for i, word, _ in answer["concepts"]] == [
        (hit.index, hit.label) for hit in search.nearest_concepts(query, vocabulary, 5)
    ]
    cosines = vocabulary.text @ query[0]
    assert answer["concepts"][0][2] == pytest.approx(float(cosines.max()), abs=1e-5)
    assert answer["images"] == [], "no image is embedded, and none will be for a question"
    assert answer["fingerprint"] == ENCODER.fingerprint


def test_a_concept_word_keeps_its_place_and_any_other_lies_among_the_words(vocabulary: Vocabulary) -> None:
    index = vocabulary.concepts.words.index("dog")
    place = place_of(vocabulary.text[index : index + 1], vocabulary)
    assert place == pytest.approx(vocabulary.layout.positions[index].tolist(), abs=1e-5)
    x, y = place_of(ENCODER.encode_text(["a word of nobody"]), vocabulary)
    low, high = vocabulary.layout.positions.min(0), vocabulary.layout.positions.max(0)
    assert low[0] <= x <= high[0]
    assert low[1] <= y <= high[1]


def test_what_cannot_be_compared_is_refused_in_words(asked, vocabulary: Vocabulary, tmp_path: Path) -> None:
    desk, writer = asked
    for question, said in (
        (ask(run="x"), "no run 'x'"),
        (ask(""), "empty"),
        (ask(count=0), "give 1 to"),
        (ask(count=True), "give 1 to"),
        (ask(ask="far"), "ask 'near'"),
    ):
        with pytest.raises(ValueError, match=said):
            desk.answer(question)
    writer.save_run("r", encoder="conse")
    with pytest.raises(QuestionError, match="analysed with encoder conse, the server now speaks planted"):
        desk.answer(ask())
    writer.save_run("r", encoder="planted", map_fingerprint="another")
    with pytest.raises(QuestionError, match="other words or another map"):
        desk.answer(ask())
    early = QuestionDesk(tmp_path, ENCODER, lambda: None, ArrayCache(tmp_path / "cache"))
    with pytest.raises(QuestionError, match="laying out its words"):
        early.answer(ask())
    early.stop()
    dumb = QuestionDesk(tmp_path, make_encoder("none"), lambda: vocabulary, ArrayCache(tmp_path / "cache"))
    with pytest.raises(QuestionError, match="knows no meaning"):
        dumb.answer(ask())
    dumb.stop()


def test_questions_pass_through_their_own_folder_while_commands_wait_elsewhere(asked, tmp_path: Path) -> None:
    desk, _ = asked
    desk.start()
    answers: list[dict] = []
    asking = [
        threading.Thread(target=lambda w=word: answers.append(control.request(tmp_path, ask(w), 20, FOLDER)))
        for word in ("dog", "cat", "striped fur")
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(30)
    assert sorted(answer["text"] for answer in answers) == ["cat", "dog", "striped fur"]
    with pytest.raises(control.ControlError, match="no run"):
        control.request(tmp_path, ask(run="x"), 20, FOLDER)
    assert not list((tmp_path / FOLDER).glob("*.request"))


def test_the_nearest_group_is_measured_for_added_words_too(vocabulary: Vocabulary) -> None:
    from cm_server.pipeline import Analysis, _watched

    units = vocabulary.text[:40]
    added = UserAnchor("r", "new", "wanted", vocabulary.text[5].numpy(), (0.0, 0.0), "e")
    known = vocabulary.concepts.words[7]

    class Found:
        embeddings = units

    analysis = Analysis(None, vocabulary, {}, 0.0, watched=(known, "no concept"), anchors=(added,))  # type: ignore[arg-type]
    found = _watched(Found(), analysis)  # type: ignore[arg-type]
    assert list(found) == [known, "new"]
    nearest = torch.cdist(vocabulary.text[5:6], units).topk(2, largest=False).values.mean()
    assert found["new"] == pytest.approx(float(nearest), abs=1e-6)
