"""A run whose older arrays were given up: the curves are whole, and the page says whose neurons it shows."""

from __future__ import annotations

from pathlib import Path

from store_factory import Factory, fill

from cm_server.keeping import Keeper
from dashboard.components.summary import shown_instead
from dashboard.data import Source


def test_a_thinned_run_shows_its_whole_curve_and_says_which_neurons_it_shows(tmp_path: Path) -> None:
    factory = Factory(tmp_path, layers=(("layer1", 8), ("layer2", 16)), words=60)
    fill(factory, snapshots=24)
    source = Source(tmp_path, lambda run: 0)
    before = source.run("r1")
    keeper = Keeper(factory.writer)
    keeper.carry_out({"do": "prune", "runs": ["r1"], "keep": "every:8"})
    while keeper.job.advance():
        pass
    factory.close()
    fresh = Source(tmp_path, lambda run: 0)
    data = fresh.run("r1")
    assert [p.summary for p in data.series["layer2"]] == [p.summary for p in before.series["layer2"]]
    assert data.info.revision > before.info.revision, "what a page kept of the run is read anew"
    asked = data.at("layer2", 240).step
    shown, _ = fresh.report(data, "layer2", 240)
    assert (asked, shown.step) == (240, 160)
    assert "of step 160" in shown_instead(asked, shown.step)
    trail = fresh.trail(data, "layer2", 3, 460)
    assert trail.steps.tolist() == [point.step for point in data.series["layer2"] if point.units]
