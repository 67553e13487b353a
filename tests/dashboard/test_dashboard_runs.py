"""The list of runs: rows from a real store, and what the grid shows of them."""

import json
import math
from dataclasses import replace

import pytest
from dash import dcc
from harness import SMALL, series
from store_factory import Factory, fill
from test_dashboard_components import run_info, text

from dashboard.components import runs_grid as grid
from dashboard.data import Source
from dashboard.listing import POINTS, Listing, row_of
from dashboard.pages import runs as page


@pytest.fixture
def store(tmp_path):
    factory = Factory(tmp_path, SMALL, words=80)
    fill(factory, snapshots=6)
    factory.alert("r1", 40)
    factory.alert("r1", 20, state="resolved")
    factory.begin("r2", name="<b>two</b>")
    yield factory
    factory.close()


def test_rows_have_the_deepest_layers_figures_and_the_open_alerts(store):
    listing = Listing(Source(store.writer.directory, lambda run: 0))
    newest, first = listing.rows()
    assert (newest.info.run, newest.step, newest.d_anchor, newest.line) == ("r2", None, None, ())
    assert (first.layer, first.step, first.alerts) == ("layer2", 100, 1)
    assert [step for step, _ in first.line] == [0, 20, 40, 60, 80, 100]
    assert first.start == first.line[0][1] or first.start == pytest.approx(first.line[0][1], rel=1e-5)
    assert 0 <= first.interpretable <= 1
    assert listing.rows() is listing.rows(), "tabs that ask at once share one reading"
    listing._until = 0.0
    store.snapshot("r1", 120, 0.9)
    assert listing.rows()[1].step == 120
    listing._until = 0.0
    store.snapshot("r1", 140, 0.9, fingerprint="other")
    row = listing.rows()[1]
    assert [step for step, _ in row.line] == [140], "values of another fingerprint are no part of the line"


def test_a_run_that_has_ended_and_did_not_change_is_not_read_again(store):
    store.writer.save_run("r1", state="finished")
    source = Source(store.writer.directory, lambda run: 0)
    listing = Listing(source)
    listing.rows()
    asked = []
    reader = source.reader()
    plain = reader.series
    reader.series = lambda run, *more: (asked.append(run), plain(run, *more))[1]
    listing._until = 0.0
    assert listing.rows()[1].step == 100
    assert "r1" not in asked


def test_no_store_has_no_rows(tmp_path):
    assert Listing(Source(tmp_path / "none", lambda run: 0)).rows() == []


def test_a_line_is_thinned_and_broken_values_are_gaps_not_numbers():
    values = [0.9 - 0.001 * i for i in range(500)]
    values[77] = math.nan
    row = row_of(run_info(), "layer1", series(values), 0)
    assert len(row.line) <= POINTS + 2
    assert None in [value for _, value in row.line]
    json.dumps(grid.grid_row(row), allow_nan=False)
    broken = row_of(run_info(), "layer1", series([0.9, math.inf]), 0)
    assert broken.d_anchor is None
    assert grid.grid_row(broken)["change"] is None


def test_grid_rows_have_a_value_for_every_column_and_link_to_the_run():
    row = grid.grid_row(row_of(run_info(run="a/b"), "l", series([0.8, 0.6]), 2))
    assert {column["field"] for column in grid.columns()} <= set(row)
    assert row["href"] == "/run/a%2Fb/overview"
    assert row["change"] == -25.0
    assert row["alerts"] == 2
    assert all(isinstance(value, str | int | float | list | None) for value in row.values())


def test_the_list_in_words():
    rows = [row_of(run_info(), "l", series([0.8]), 1), row_of(run_info(run="r2", state="lost"), "l", [], 0)]
    assert grid.counts_sentence(rows) == "2 runs, 1 running, 1 open alert."
    assert grid.counts_sentence(rows[1:]) == "1 run, 0 running, no open alert."


def test_two_or_more_selected_runs_lead_to_the_compare_page():
    assert text(grid.compare_link([])) == "Select two or more runs to compare them."
    assert "one more" in text(grid.compare_link([{"run": "a"}]))
    link = grid.compare_link([{"run": "a"}, {"run": "b,c"}, {"run": "d"}])
    assert isinstance(link, dcc.Link)
    assert link.href == "/compare?runs=a,b%252Cc,d"
    many = grid.compare_link([{"run": f"r{i}"} for i in range(12)])
    assert text(many) == "Compare 8 runs (of 12)"


def test_tags_are_a_column():
    assert grid.grid_row(row_of(replace(run_info(), tags=("good", "<b>")), "l", [], 0))["tags"] == "good, <b>"


def test_the_grid_keeps_rows_by_their_run_and_takes_no_string_that_would_be_evaluated():
    found = next(c for c in page.page()._traverse() if getattr(c, "id", "") == "runs-grid")
    assert found.getRowId == "params.data.run"
    assert "function" not in json.dumps(found.dashGridOptions)
    assert not [c for c in grid.columns() if "valueFormatter" in c or "valueGetter" in c]
