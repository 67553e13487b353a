"""The Alerts page: its filters and lists as pure functions, and orders that reach a server or say why not."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from harness import alert
from hypothesis import given, settings
from hypothesis import strategies as st
from kept_factory import add_letters
from order_desk import serving
from store_factory import Factory
from test_dashboard_components import text

from cm_server.events import DISCOVERY_FILE, write_discovery
from cm_server.notices import RANK, Silence
from cm_server.stores.reader import StoreReader
from dashboard import alert_filter as filters
from dashboard import orders
from dashboard.alert_filter import Wanted
from dashboard.components import alert_desk as words
from dashboard.data import Source
from dashboard.desk import Desk

calm = settings(deadline=None, max_examples=40)

names = st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
wishes = st.builds(Wanted, names, st.sampled_from(filters.STATES), st.sampled_from(filters.SEVERITIES), names)
states = st.sampled_from(["pending", "firing", "recovering", "resolved", "ended"])
alerts = st.builds(
    lambda n, state, severity, run: replace(alert(n, severity), id=n, state=state, run=run),
    st.integers(1, 500),
    states,
    st.sampled_from([*RANK]),
    st.sampled_from(["r1", "r2"]),
)


@calm
@given(wishes)
def test_every_filter_survives_its_address(wanted):
    assert filters.parse(filters.query(wanted)) == wanted


@calm
@given(st.text(max_size=60))
def test_any_query_is_some_filter(search):
    wanted = filters.parse(search)
    assert wanted.state in filters.STATES
    assert wanted.severity in filters.SEVERITIES


@calm
@given(st.lists(alerts, max_size=30), wishes)
def test_open_and_past_part_what_the_filters_keep(found, wanted):
    kept = [one for one in found if wanted.keeps(one)]
    opened = [one for one in kept if filters.is_open(one)]
    said = words.counts_sentence(found, wanted)
    assert (f"{len(opened):,} open" if opened else "none open") in said
    assert f"{len(kept) - len(opened):,} past" in said
    assert ("hidden by the filters" in said) == (len(kept) < len(found))


def test_filters_keep_what_they_say():
    found = [alert(1, "info"), replace(alert(2, "error"), state="ended"), replace(alert(3, "warning"), rule="NoData")]
    assert [a.step for a in found if Wanted(severity="warning").keeps(a)] == [2, 3]
    assert [a.step for a in found if Wanted(state="open").keeps(a)] == [1, 3]
    assert [a.step for a in found if Wanted(state="past").keeps(a)] == [2]
    assert [a.step for a in found if Wanted(rule="NoData").keeps(a)] == [3]
    assert [a.step for a in found if Wanted(run="other").keeps(a)] == []


def test_open_alerts_come_worst_first_with_link_words_and_buttons():
    found = [replace(alert(10), id=1), replace(alert(20, "error"), id=2), replace(alert(30), id=3, state="resolved")]
    shown = words.open_list(found, Wanted(), {"r1": "<b>my run</b>"}, {1: "acknowledged by Ada"}, now=7200.0)
    said = text(shown)
    assert said.index("step 20") < said.index("step 10")
    assert "step 30" not in said
    for part in ("<b>my run</b>", "it rises", "firing since 2 h", "acknowledged by Ada", "Acknowledge…", "Silence…"):
        assert part in said
    plain = json.dumps([one.to_plotly_json() for one in shown], default=lambda c: c.to_plotly_json())
    assert "/run/r1/overview?layer=layer1&step=20" in plain
    past = text(words.past_list(found, Wanted(), {}, {}, 7200.0))
    assert "step 30" in past
    assert "Acknowledge" not in past, "what is over cannot be acknowledged"


def test_nothing_to_list_says_why():
    assert words.NONE in text(words.open_list([], Wanted(), {}, {}, 0.0))
    over = [replace(alert(1), state="ended")]
    assert words.NONE_OPEN in text(words.open_list(over, Wanted(), {}, {}, 0.0))
    assert words.NONE_WANTED in text(words.open_list([alert(1)], Wanted(run="r9"), {}, {}, 0.0))
    assert "ended with the run" in words.lifetime(over[0], 60.0)
    assert words.lifetime(replace(alert(1), state="recovering"), 60.0) == "recovering; fired 1 min ago"


def test_many_alerts_are_cut_and_counted():
    found = [replace(alert(n), id=n) for n in range(1, words.SHOWN + 8)]
    assert "and 7 older ones" in text(words.open_list(found, Wanted(), {}, {}, 0.0))


def test_silences_say_what_until_when_and_by_whom():
    one = Silence("s1", {"run": "r1", "rule": "Concept*"}, 0.0, time.time() + 60, "Ada", "<i>moving</i>")
    said = text(words.silences_list([one], {"r1": "my run"}))
    for part in ("run my run, rule Concept*", "until", "by Ada", "<i>moving</i>", "End it"):
        assert part in said
    assert words.NOT_SILENT in text(words.silences_list([], {}))


def test_a_silences_scope_is_what_it_says():
    one = replace(alert(5), run="r7", layer="layer3", rule="ConceptStall")
    assert orders.matchers(one, "alert") == {"run": "r7", "rule": "ConceptStall", "layer": "layer3"}
    assert orders.matchers(replace(one, layer=""), "alert") == {"run": "r7", "rule": "ConceptStall"}
    assert orders.matchers(one, "run") == {"run": "r7"}
    assert orders.matchers(one, "everywhere") == {"rule": "ConceptStall"}
    with pytest.raises(orders.OrderError, match="no scope 'all'"):
        orders.matchers(one, "all")


@pytest.fixture
def store(tmp_path):
    factory = Factory(tmp_path / "store", (("layer1", 8),), words=40)
    factory.begin("r1", name="my run")
    factory.alert("r1", 60, "layer1")
    add_letters(factory.writer, "r1", time.time())
    factory.close()
    return tmp_path / "store"


def test_orders_reach_the_server_and_show_on_the_page(store):
    desk = Desk(Source(store, lambda run: 0))
    data = desk.read()
    one = data.alerts[0]
    said = text(words.deliveries_list(data.failed, data.struggling, data.names))
    for part in ("slack.team", "my run", "given up after 3 tries", "<b>410 Gone</b>", "timed out"):
        assert part in said
    with serving(store) as changed:
        orders.carry_out(store, orders.acknowledge(one.id, " Ada ", "known"))
        orders.carry_out(store, orders.silence(one, "rule", 3600, "Ada", ""))
        assert changed.count("r1") == 2, "other tabs are told"
        desk.forget()
        data = desk.read()
        assert (data.acknowledged[one.id].author, data.acknowledged[one.id].note) == ("Ada", "known")
        assert data.silences[0].covers(one, time.time())
        orders.carry_out(store, orders.unsilence(data.silences[0].id))
        assert "0" * 32 in orders.carry_out(store, orders.replay())["replayed"]
        desk.forget()
        assert not desk.read().silences


def test_a_refusal_is_given_in_the_servers_words(store):
    with serving(store), pytest.raises(orders.OrderError, match="there is no alert 99"):
        orders.carry_out(store, orders.acknowledge(99, "", ""))


def test_without_a_server_nothing_is_written_and_the_cure_is_named(store):
    with pytest.raises(orders.OrderError, match=r"No server runs on this store.*concept-monitor up.*alerts ack"):
        orders.carry_out(store, orders.acknowledge(1, "", ""))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    write_discovery(store, "tcp://127.0.0.1:1", "tcp://127.0.0.1:1")
    found = json.loads((store / DISCOVERY_FILE).read_text())
    (store / DISCOVERY_FILE).write_text(json.dumps(found | {"pid": gone.pid}))
    with pytest.raises(orders.OrderError, match="No server runs"):
        orders.carry_out(store, orders.replay())
    assert not (store / "control").exists() or not os.listdir(store / "control"), "no order is left for later"
    reader = StoreReader(store)
    assert len(reader.alerts()) == 1
    reader.close()


def test_a_server_that_does_not_answer_is_not_waited_for_long(store, monkeypatch):
    monkeypatch.setattr(orders, "PATIENCE_SECONDS", 0.2)
    write_discovery(store, "tcp://127.0.0.1:1", "tcp://127.0.0.1:1")
    with pytest.raises(orders.OrderError, match=r"did not answer within 0\.2 s; nothing was changed"):
        orders.carry_out(store, orders.acknowledge(1, "", ""))


def test_tabs_share_one_reading(store, monkeypatch):
    desk = Desk(Source(store, lambda run: 0))
    monkeypatch.setattr("dashboard.desk.FRESH_SECONDS", 60.0)
    first = desk.read()
    assert desk.read() is first
    desk.forget()
    assert desk.read() is not first


def test_no_store_is_an_empty_desk(tmp_path):
    assert Desk(Source(tmp_path / "none", lambda run: 0)).read().alerts == ()
