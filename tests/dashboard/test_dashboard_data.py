"""The data layer over a real store: the right snapshot, few queries, nothing kept that may still change."""

import time

import numpy as np
import pytest
from harness import SMALL
from store_factory import CONCEPT_FINGERPRINT, Factory, fill

from dashboard.data import Source


class Version:
    """Stands where the feed stands: a number per run that grows with news."""

    def __init__(self):
        self.now = 0

    def __call__(self, run):
        return self.now


@pytest.fixture
def source(filled):
    return Source(filled, Version())


def test_a_run_with_everything(source):
    data = source.run("r1")
    assert data.layers == SMALL
    assert {len(points) for points in data.series.values()} == {39}
    assert list(data.scalars) == ["loss", "accuracy"], "loss first, whatever the alphabet says"
    assert len(data.alerts) == 2
    assert len(data.gaps) == 1
    assert data.layer(None) == "layer2"
    assert data.layer("layer1") == "layer1"
    assert data.layer("nothing") == "layer2"
    assert source.run("absent") is None
    assert source.run(None) is None


def test_no_store_yet_is_no_error(tmp_path):
    source = Source(tmp_path / "later", Version())
    assert source.runs() == []
    assert source.run("r1") is None
    factory = Factory(tmp_path / "later", SMALL, words=60)
    fill(factory, snapshots=3)
    factory.close()
    assert source.run("r1") is not None, "the store is found when it appears"


@pytest.mark.parametrize(("asked", "shown"), [(None, 780), (780, 780), (9999, 780), (779, 760), (345, 320), (0, 0)])
def test_the_last_snapshot_not_after_a_step(source, asked, shown):
    data = source.run("r1")
    assert data.at("layer2", asked).step == shown
    assert source.report(data, "layer2", asked)[0].step == shown


def test_a_step_before_all_shows_the_first(source):
    data = source.run("r1")
    assert data.at("layer2", -1).step == 0
    assert data.at("nothing", None) is None


def test_reports_and_trails_are_read_once(source):
    data = source.run("r1")
    assert source.report(data, "layer2", 340) is source.report(data, "layer2", 359), (
        "steps 340 to 359 are one snapshot (a gap)"
    )
    trail = source.trail(data, "layer2", 5, 300)
    again = source.trail(data, "layer2", 5, 319)
    assert all((getattr(trail, name) == getattr(again, name)).all() for name in ("steps", "positions", "concepts"))
    assert trail.steps[-1] == 300
    assert source.trail(data, "layer2", 40, None) is None
    assert source.trail(data, "layer2", -1, None) is None


def test_map_and_words(source):
    data = source.run("r1")
    assert len(source.concept_map(data).words) == 150
    assert source.words(data)[0] == source.concept_map(data).words
    assert data.info.concept_fingerprint == CONCEPT_FINGERPRINT


def test_news_brings_what_is_new_and_only_that(tmp_path):
    factory, version = Factory(tmp_path, SMALL, words=60), Version()
    fill(factory, snapshots=5)
    source = Source(tmp_path, version)
    before = source.run("r1")
    factory.snapshot("r1", 100, 0.9)
    factory.scalars("r1", 100, loss=0.1, lr=0.01)
    assert source.run("r1") is before, "without news nothing is read"
    version.now += 1
    after = source.run("r1")
    assert [p.step for p in after.series["layer1"]] == [0, 20, 40, 60, 80, 100]
    assert after.scalars["loss"].steps[-1] == 100
    assert len(after.scalars["lr"].steps) == 1
    assert after.series["layer1"][:5] == before.series["layer1"], "old points are not read again"
    factory.close()


def test_ten_tabs_cost_one_read_per_snapshot(filled):
    version = Version()
    source = Source(filled, version)
    for _ in range(3):
        version.now += 1
        for _ in range(10):
            source.run("r1")
    assert source.reads == 3


def test_without_events_the_store_is_read_again_after_a_while(tmp_path, monkeypatch):
    factory = Factory(tmp_path, SMALL, words=60)
    fill(factory, snapshots=2)
    monkeypatch.setattr("dashboard.data.MAX_AGE_SECONDS", 0.05)
    source = Source(tmp_path, Version())
    source.run("r1")
    factory.snapshot("r1", 500, 0.9)
    time.sleep(0.06)
    assert source.run("r1").at("layer1", None).step == 500
    factory.close()


def test_a_resumed_run_shows_the_later_snapshot_of_a_step(tmp_path):
    factory = Factory(tmp_path, SMALL, words=60)
    factory.begin("r1")
    factory.ready("r1")
    version = Version()
    source = Source(tmp_path, version)
    for step in (0, 20, 40):
        factory.snapshot("r1", step, 0.5, epoch="e1")
    assert [point.step for point in source.run("r1").series["layer1"]] == [0, 20, 40]
    for step in (20, 30):
        last = factory.snapshot("r1", step, 0.5, epoch="e2")
        version.now += 1
    data = source.run("r1")
    assert [point.step for point in data.series["layer1"]] == [0, 20, 30]
    assert [point.epoch for point in data.series["layer1"]] == ["e1", "e2", "e2"]
    assert data.at("layer1", None).sequence == last
    assert data.at("layer1", 20).sequence == last - 1
    snapshot, report = source.report(data, "layer1", 20)
    assert snapshot.sequence == last - 1
    assert np.isfinite(report.summary.d_anchor)
    factory.close()


def test_a_growing_trail_equals_the_trail_read_at_once(tmp_path):
    factory, version = Factory(tmp_path, SMALL, words=60), Version()
    fill(factory, snapshots=4)
    growing = Source(tmp_path, version)
    for step in (100, 120, 140):
        growing.trail(growing.run("r1"), "layer2", 5, None)
        factory.snapshot("r1", step, 0.8)
        version.now += 1
    grown = growing.trail(growing.run("r1"), "layer2", 5, None)
    fresh = Source(tmp_path, Version())
    whole = fresh.trail(fresh.run("r1"), "layer2", 5, None)
    assert grown.steps.tolist() == [0, 20, 40, 60, 100, 120, 140]
    for name in ("steps", "positions", "concepts", "similarities", "shift"):
        np.testing.assert_array_equal(getattr(grown, name), getattr(whole, name))
    factory.close()
