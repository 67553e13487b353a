"""Words: by letters, by the server, in the palette; and what a layer speaks of."""

import json
from collections import Counter
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from dash import html
from hypothesis import given
from hypothesis import strategies as st
from store_factory import Factory
from test_dashboard_components import all_of, run_info, text
from test_dashboard_neuron import anchor

from dashboard import lookup, spelling
from dashboard.asking import answer_of
from dashboard.census import census, turnover
from dashboard.components import concepts as words
from dashboard.finding import by_concept
from dashboard.lookup import Found
from dashboard.palette import COUNT, OF_A_KIND, Known, find
from dashboard.view import View, parse

HERE = View("r1", "concepts", "layer1")
VOCABULARY = ("dog", "hot dog", "bulldog", "cat", "striped", "T-shirt", "dog house")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    factory = Factory(tmp_path_factory.mktemp("made"), (("layer1", 60),), words=200)
    factory.begin("r1")
    early, late = (factory._layer("r1", "layer1", done, "f") for done in (0.1, 0.9))
    factory.close()
    return factory.map, early, late, factory.text


@given(st.text(max_size=20), st.text(max_size=20))
def test_an_exact_word_fits_best_and_a_fit_is_about_letters_that_are_there(query, other):
    exact = spelling.fit(query, query)
    assert (exact is None) == (spelling.folded(query) == "")
    found = spelling.fit(query, other)
    if found is not None:
        assert exact <= found
        assert set(spelling.folded(query).replace(" ", "")) <= set(spelling.folded(other))


@given(st.lists(st.text(max_size=8), max_size=30), st.text(max_size=8), st.integers(1, 10))
def test_words_spelt_alike_are_different_words_and_never_too_many(vocabulary, query, count):
    found = spelling.spelt_alike(query, vocabulary, count)
    assert len(found) <= count
    assert len(set(found)) == len(found)
    assert all(0 <= index < len(vocabulary) for index in found)


def test_spelling_ranks_whole_words_first_and_forgives_a_letter():
    found = [VOCABULARY[i] for i in spelling.spelt_alike("dog", VOCABULARY)]
    assert found[0] == "dog"
    assert set(found) >= {"dog house", "hot dog", "bulldog"}
    assert found.index("dog house") < found.index("hot dog") < found.index("bulldog")
    assert [VOCABULARY[i] for i in spelling.spelt_alike("stripped", VOCABULARY)] == ["striped"]
    assert next(VOCABULARY[i] for i in spelling.spelt_alike("t shirt", VOCABULARY)) == "T-shirt"
    assert spelling.spelt_alike("  ", VOCABULARY) == []


@given(st.text(max_size=60))
def test_any_query_is_some_text_that_the_server_would_take(said):
    found = lookup.text_of("?q=" + said)
    assert len(found) <= 120
    assert found == " ".join(found.split())
    assert found.isprintable()


def test_without_a_server_a_stored_word_is_found_by_meaning_and_any_other_by_letters_only():
    space = np.eye(7, dtype=np.float32)
    space[1] = [0.8, 0.6, 0, 0, 0, 0, 0]
    stored = lookup.without_server("Dog", "No server runs on this store", VOCABULARY, space)
    assert stored.by == lookup.STORE
    assert [VOCABULARY[i] for i, _ in stored.concepts[:2]] == ["dog", "hot dog"]
    assert stored.concepts[1][1] == pytest.approx(0.8)
    assert "any other text needs the server's encoder" in stored.note
    for embeddings, query in ((None, "dog"), (space, "dogs of the night"), (space, "stripped")):
        found = lookup.without_server(query, "No server runs on this store", VOCABULARY, embeddings)
        assert found.by == lookup.LETTERS
        assert found.vector is None
        assert found.note.startswith("No server runs on this store. Words only:")
        assert "letter by letter with the run's 7 words, not by meaning" in found.note
        assert all(score is None for _, score in found.concepts)


def test_units_near_a_text_by_its_place_or_by_their_words(made):
    layout, _, report, space = made
    concept = int(report.arrays.concepts[7, 0])
    found = Found("x", lookup.SERVER, "", ((concept, 0.9),), space[concept])
    near = lookup.near_units(found, report, 5)
    distances = np.linalg.norm(report.arrays.embeddings - space[concept], axis=1)
    assert near[0].unit == int(np.nanargmin(distances))
    naming = lookup.units_naming(found, report, 60)
    assert {unit for unit, _ in naming} == set(np.flatnonzero((report.arrays.concepts == concept).any(axis=1)))
    assert [rank for _, rank in naming] == sorted(rank for _, rank in naming)
    assert lookup.near_units(replace(found, vector=np.ones(3)), report) is None, "another width is another space"
    assert "No neuron of this layer" in text(words.units_list(None, [], layout, report, HERE))
    said = text(words.units_list(None, naming, layout, report, HERE))
    assert "among the neuron's five" in said


def test_the_census_counts_interpretable_units_and_the_turnover_every_concept_once(made):
    _, early, late, _ = made
    before, now = census(early), census(late)
    assert sum(now.values()) == late.summary.interpretable
    found = turnover(before, now)
    gained, lost = {c for c, _ in found.gained}, {c for c, _ in found.lost}
    assert gained.isdisjoint(lost)
    assert len(gained) + found.kept == len(now)
    assert len(lost) + found.kept == len(before)


counts = st.dictionaries(st.integers(0, 9), st.integers(0, 5))


@given(counts, counts)
def test_what_is_gained_one_way_is_lost_the_other(before, now):
    there, back = turnover(before, now), turnover(now, before)
    assert there.gained == back.lost
    assert there.lost == back.gained
    assert there.kept == back.kept


def test_common_concepts_gained_and_lost_or_why_there_are_none(made):
    layout, early, late, _ = made
    said = text(words.common_table(census(late), layout, late, HERE))
    assert f"{late.summary.interpretable:,} interpretable neurons of 60" in said
    strict = replace(late, summary=replace(late.summary, tau=9.0, interpretable=0))
    assert "nearest miss is neuron" in text(words.common_table(Counter(), layout, strict, HERE))
    assert words.FIRST in text(words.turnover_lists(None, layout, HERE, None))
    assert "no snapshot at or before step 1,500 that is earlier" in text(words.turnover_lists(None, layout, HERE, 1500))
    assert "Since step 20:" in text(words.turnover_lists(turnover(census(early), census(late)), layout, HERE, 20))


def test_search_notes_and_buttons():
    letters = Found("a <b>", lookup.LETTERS, "Words only: …")
    assert "warned" in all_of(html.P, html.Div(words.note(letters)))[0].className
    assert words.add_buttons("fur", False) == [], "only what the server placed can be an anchor"
    assert "Add as wanted" in text(words.add_buttons("fur", True))
    assert "Add as unwanted" in text(words.add_buttons("fur", True))


def test_anchors_are_listed_with_distance_change_and_a_way_out():
    assert words.NO_ANCHOR in text(words.anchors_list([], "layer1", HERE))
    lines = [
        words.AnchorLine(anchor("fur"), 0.8, 0.9),
        words.AnchorLine(anchor("mud", "undesirable"), 0.8, 0.9),
        words.AnchorLine(anchor("far"), float("nan"), float("nan")),
        words.AnchorLine(anchor("still"), 0.8, 0.8),
    ]
    table = html.Div(words.anchors_list(lines, "layer1", HERE))
    rows = [text(row) for row in all_of(html.Tr, table)[1:]]
    assert "−11.1 %" in rows[0]
    assert "unwanted" in rows[1]
    assert "–" in rows[2]
    kinds = [cell.className for row in all_of(html.Tr, table)[1:] for cell in all_of(html.Td, row)[3:4]]
    assert kinds == ["better", "worse", "", ""], "to near a wanted word is good, an unwanted one bad"
    assert [b.id["word"] for b in all_of(html.Button, table)] == ["fur", "mud", "far", "still"]


def known(**more):
    runs = [run_info(run=f"r{i}", name=f"resnet run {i}") for i in range(20)]
    fixed = {
        "here": View("r1", "map", "layer2", 40, 3),
        "runs": runs,
        "layers": (("layer1", 64), ("layer2", 128)),
        "words": VOCABULARY,
        "speaking": {0: [9, 4], 3: [5]},
        "layer": "layer2",
    }
    return Known(**(fixed | more))


@given(st.text(max_size=30))
def test_whatever_is_typed_the_palette_answers_with_addresses_that_exist(query):
    hits = find(query, known())
    assert len(hits) <= COUNT
    for hit in hits:
        parts = urlsplit(hit.href)
        assert parse(parts.path, parts.query).page != "unknown"
        json.dumps([hit.kind, hit.label, hit.note])


def test_the_palette_without_a_query_offers_pages_and_the_newest_runs():
    hits = find("", known())
    assert [hit.label for hit in hits[:3]] == ["Overview", "Concept map", "Neuron"]
    assert sum(hit.kind == "run" for hit in hits) == OF_A_KIND
    elsewhere = find("", known(here=View(), layers=(), words=(), speaking={}))
    assert [hit.label for hit in elsewhere if hit.kind == "page"] == ["Runs", "Compare", "Alerts", "System"]


def test_the_palette_finds_neurons_by_name_number_and_concept():
    first = find("layer2:17", known())[0]
    assert (first.kind, first.label) == ("neuron", "layer2:17")
    target = parse(urlsplit(first.href).path, urlsplit(first.href).query)
    assert target == View("r1", "neuron", "layer2", 40, 17), "the step that is looked at stays"
    assert [hit.label for hit in find("17", known()) if hit.kind == "neuron"] == ["layer2:17", "layer1:17"]
    assert not [hit for hit in find("layer1:64", known()) if hit.kind == "neuron"], "layer1 has neurons 0 to 63"
    dog = find("dog", known())
    assert [hit.label for hit in dog if hit.kind == "neuron"][:2] == ["layer2:9", "layer2:4"]
    assert dog[-1].kind == "meaning"
    assert parse_qs(urlsplit(dog[-1].href).query)["q"] == ["dog"]


def test_the_palette_finds_runs_by_name_and_id_and_pages_by_name():
    assert find("run 7", known())[0].label == "resnet run 7"
    assert [hit.label for hit in find("r13", known()) if hit.kind == "run"] == ["resnet run 13"]
    assert find("sys", known())[0].label == "System"
    assert [hit.kind for hit in find("zzz qqq", known())] == ["meaning"]


def test_units_of_a_concept_are_its_interpretable_ones_best_described_first(made):
    _, _, report, _ = made
    found = by_concept(report)
    assert Counter({c: len(units) for c, units in found.items()}) == census(report)
    for units in found.values():
        margins = report.arrays.margin[units].tolist()
        assert margins == sorted(margins, reverse=True)


def test_a_senseless_answer_of_a_server_is_an_error_and_nothing_else():
    good = {"text": "fur", "vector": [1, 0], "place": [0, 1], "encoder": "e", "fingerprint": "f"}
    good |= {"concepts": [[3, "fur", 0.5]], "images": [[7, "probe image 7", 0.25]]}
    assert answer_of(good).images == ((7, 0.25),)
    for name in good:
        with pytest.raises((KeyError, TypeError, ValueError)):
            answer_of({key: value for key, value in good.items() if key != name})
