"""What channels are told: laws that hold for every history, and the cases a person would ask about."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cm_server.core.delivery import Delivery, Route, Timing
from cm_server.core.muting import inhibited
from cm_server.notices import OPEN_STATES, RANK, Notice, Silence, Told
from cm_server.report import Alert

TIMING = Timing(group_wait=10, group_interval=100, repeat=1000, fresh=500)
ROUTES = (Route("chat"), Route("pager", minimum="error"), Route("list", tells_ended=True, refreshes=True))


def alert(key: int = 1, rule: str = "ConceptStall", severity: str = "warning", state: str = "firing", **more) -> Alert:
    fixed = {"run": "r", "layer": "layer4", "step": 5, "opened": 0.0, "updated": 0.0, "value": 0.8}
    return Alert(key, rule=rule, severity=severity, state=state, message="m", details={}, **(fixed | more))


class Desk:
    """A delivery, its channels' mailboxes, and a clock."""

    def __init__(self, routes: tuple[Route, ...] = (Route("chat"),), timing: Timing = TIMING) -> None:
        self.delivery = Delivery(timing, routes)
        self.now, self.dead, self.mail = 0.0, set[str](), list[Notice]()

    def at(self, now: float, *alerts: Alert, arrives: bool = True) -> list[tuple[str, str, str]]:
        """Takes alerts, moves on to a time, and returns (channel, rule, status) of what goes out then."""
        for one in alerts:
            self.delivery.change(replace(one, updated=now))
        self.now = now
        sent = self.delivery.due(now, lambda run: run not in self.dead)
        for notice in sent:
            self.delivery.record(notice)
            if arrives:
                self.delivery.delivered(notice)
        self.mail += sent
        return [(n.channel, i.alert.rule, i.status) for n in sent for i in n.items]


def test_alerts_of_a_run_that_fire_together_go_out_together_once() -> None:
    desk = Desk()
    assert desk.at(0, alert(1), alert(2, "DeadUnits")) == [], "they wait for others"
    assert desk.at(5, alert(3, "NoData")) == []
    assert desk.at(10) == [("chat", rule, "firing") for rule in ("ConceptStall", "DeadUnits", "NoData")]
    assert len(desk.mail) == 1
    assert [desk.at(t) for t in (11, 500, 1009)] == [[], [], []]


def test_runs_are_told_apart() -> None:
    desk = Desk()
    desk.at(0, alert(1), alert(2, run="other"))
    desk.at(10)
    assert [notice.run for notice in desk.mail] == ["r", "other"]


def test_a_firing_alert_is_repeated_while_its_run_lives_and_nobody_has_seen_it() -> None:
    desk = Desk()
    desk.at(0, alert())
    first = desk.at(10)
    assert [desk.at(t) for t in (600, 620, 1009)] == [[], [], []]
    desk.at(1010)
    assert desk.at(1020) == first, "after `repeat`, and the wait for others"
    desk.delivery.mute([], [1])
    assert [desk.at(t) for t in (2030, 2050)] == [[], []]
    desk.delivery.mute([], [])
    desk.dead.add("r")
    assert [desk.at(t) for t in (4000, 4020)] == [[], []]


def test_worse_is_told_also_where_it_was_acknowledged_and_better_is_not() -> None:
    desk = Desk()
    desk.at(0, alert())
    desk.at(10)
    desk.delivery.mute([], [1])
    desk.at(20, alert(severity="error"))
    assert desk.at(30) == [("chat", "ConceptStall", "firing")], "an error does not wait for group_interval"
    assert desk.mail[-1].items[0].previous == "warning"
    desk.at(200, alert(severity="warning"))
    assert desk.at(220) == []
    desk.delivery.mute([], [])
    desk.at(1100)
    assert len(desk.at(1120)) == 1, "repeated, as a warning now"
    desk.at(1300, alert(severity="error"))
    assert desk.at(1320) == [], "an error they have been told of"


def test_a_resolution_follows_a_firing_that_arrived_and_only_that() -> None:
    desk = Desk()
    desk.at(0, alert(1), alert(2, "DeadUnits"))
    desk.at(10, arrives=False)
    desk.at(200, alert(1, state="resolved"))
    assert desk.at(220) == [], "nobody heard that it fired"
    desk.delivery.delivered(desk.mail[0])
    desk.at(230)
    assert desk.at(240) == [("chat", "ConceptStall", "resolved")]
    assert desk.at(900) == []


def test_people_hear_of_an_incident_twice_and_lists_of_its_end_as_well() -> None:
    desk = Desk((Route("chat"), Route("list", tells_ended=True)))
    desk.at(0, alert())
    desk.at(10)
    desk.at(20, alert(severity="error"))
    assert desk.at(30) == [(channel, "ConceptStall", "firing") for channel in ("chat", "list")]
    desk.at(200, alert(severity="error", state="resolved"))
    assert desk.at(220) == [("list", "ConceptStall", "resolved")]
    desk.at(400, alert(2, "DeadUnits"))
    told = desk.at(420)
    assert [rule for channel, rule, _ in told if channel == "list"] == ["DeadUnits"]
    assert told[:2] == [("chat", "DeadUnits", "firing"), ("chat", "ConceptStall", "resolved")], "it goes along"
    assert desk.at(900) == []


def test_that_an_error_is_over_is_told_where_it_was_one_from_the_start() -> None:
    desk = Desk()
    desk.at(0, alert(severity="error"))
    desk.at(10)
    desk.at(1010)
    assert desk.at(1020) == [("chat", "ConceptStall", "firing")], "the reminder"
    desk.at(1200, alert(severity="error", state="resolved"))
    assert desk.at(1220) == [("chat", "ConceptStall", "resolved")]


def test_a_repetition_that_does_not_arrive_takes_nothing_back() -> None:
    desk = Desk()
    desk.at(0, alert())
    desk.at(10)
    desk.at(1010)
    assert len(desk.at(1020, arrives=False)) == 1
    desk.at(1200, alert(state="resolved"))
    assert desk.at(1220) == [("chat", "ConceptStall", "resolved")]


def test_an_alert_that_fires_again_after_its_end_was_told_is_told_again() -> None:
    desk = Desk((Route("list", tells_ended=True),))
    desk.at(0, alert())
    desk.at(10)
    desk.at(200, alert(state="ended"))
    assert desk.at(220) == [("list", "ConceptStall", "resolved")]
    desk.at(400, alert(state="firing"))
    assert desk.at(420) == [("list", "ConceptStall", "firing")], "a resumed run goes on where it was"


def test_what_is_over_before_it_was_told_is_no_news_but_the_end_of_a_run_is_none_either() -> None:
    desk = Desk()
    desk.at(0, alert(1), alert(2, "NonFinite", "error"))
    assert desk.at(5, alert(1, state="resolved"), alert(2, "NonFinite", "error", state="ended")) == []
    assert desk.at(15) == [("chat", "NonFinite", "firing")], "a run that died of it must not die unheard"
    assert desk.at(200) == []


def test_the_end_of_a_run_is_told_where_a_list_is_kept() -> None:
    desk = Desk((Route("chat"), Route("list", tells_ended=True)))
    desk.at(0, alert())
    desk.at(10)
    desk.at(200, alert(state="ended"))
    assert desk.at(220) == [("list", "ConceptStall", "resolved")]


def test_a_silence_holds_back_and_its_end_lets_go() -> None:
    desk = Desk()
    desk.delivery.mute([Silence("s", {"rule": "Concept*", "layer": "layer4"}, 0.0, 300.0)], [])
    desk.at(0, alert(1), alert(2, "ConceptRise", layer="layer3"))
    assert desk.at(10) == [("chat", "ConceptRise", "firing")]
    desk.at(301)
    assert desk.at(320) == [("chat", "ConceptStall", "firing")], "it still fires, so it is told now"


def test_a_dead_layer_explains_its_stall_and_nothing_else() -> None:
    dead = alert(9, "DeadLayer", "error")
    assert inhibited(alert(), [dead, alert()])
    assert not inhibited(alert(), [replace(dead, state="resolved"), alert()])
    assert not inhibited(alert(layer="layer3"), [dead])
    assert not inhibited(alert(run="other"), [dead])
    assert not inhibited(alert(rule="NoData"), [dead])
    assert not inhibited(dead, [dead, alert(rule="NoData", severity="error")])
    assert not inhibited(alert(), [alert(9, "NoData", "error")]), "missing data explains no trend"
    assert inhibited(alert(), [alert(9, severity="error")]), "an error of the same fingerprint"
    assert not inhibited(alert(9, severity="error"), [alert()])
    assert inhibited(alert(state="ended"), [replace(dead, state="ended")])


def test_an_inhibited_alert_is_told_once_its_explanation_is_gone() -> None:
    desk = Desk()
    desk.at(0, alert(1), alert(2, "DeadLayer", "error"))
    assert desk.at(10) == [("chat", "DeadLayer", "firing")]
    desk.at(200, alert(2, "DeadLayer", "error", state="resolved"))
    assert sorted(desk.at(210)) == [("chat", "ConceptStall", "firing"), ("chat", "DeadLayer", "resolved")]


def test_filters_and_severities() -> None:
    route = Route("x", "error", runs=("prod-*", "exact[1]"), rules=("Concept*",), layers=("layer?",))
    assert route.takes(alert(severity="error", run="prod-7"))
    assert route.takes(alert(severity="error", run="exact[1]")), "brackets in a name also stand for themselves"
    assert not route.takes(alert(severity="warning", run="prod-7"))
    assert not route.takes(alert(severity="error", run="dev"))
    assert not route.takes(alert(rule="NoData", severity="error", run="prod-7"))
    assert not Route("x").takes(alert(severity="info"))


def test_an_old_alert_of_a_dead_run_is_not_dug_up_for_a_new_channel() -> None:
    delivery = Delivery(TIMING, ROUTES, [alert(updated=0.0)])
    alive: set[str] = set()
    assert delivery.due(10_000, alive.__contains__, hurry=True) == []
    alive.add("r")
    assert [n.channel for n in delivery.due(10_000, alive.__contains__, hurry=True)] == ["chat", "list"]


def test_on_the_way_out_nothing_waits() -> None:
    delivery = Delivery(TIMING, ROUTES, [alert()])
    assert delivery.due(1, lambda _: True) == []
    assert len(delivery.due(1, lambda _: True, hurry=True)) == 2


RULES = ("ConceptStall", "DeadLayer", "NoData")
operations = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.sampled_from([1.0, 11.0, 120.0])),
        st.tuples(st.just("wait"), st.sampled_from([11.0, 490.0, 1100.0])),
        st.tuples(st.just("change"), st.integers(0, 5), st.sampled_from(["warning", "error", "info"]),
                  st.sampled_from(["firing", "firing", "recovering", "resolved", "ended"])),
        st.tuples(st.just("silence"), st.sampled_from(RULES), st.sampled_from([50.0, 2000.0])),
        st.tuples(st.just("ack"), st.integers(0, 5)),
        st.tuples(st.just("arrive"), st.booleans()),
        st.tuples(st.just("restart")),
    ),
    max_size=40,
)  # fmt: skip


class World:
    """Alerts, channels and letters on their way, as the server has them; checks every notice as it is written."""

    def __init__(self) -> None:
        self.now = 1.0
        self.alerts: dict[int, Alert] = {}
        self.silences: list[Silence] = []
        self.acks: set[int] = set()
        self.on_their_way: list[Notice] = []
        self.heard: dict[tuple[str, int], list[tuple[float, str, str]]] = {}
        self.arrived: set[tuple[str, int]] = set()
        self.delivery = Delivery(TIMING, ROUTES)

    def look(self) -> None:
        for notice in self.delivery.due(self.now, lambda _: True):
            self._check(notice)
            self.delivery.record(notice)
            self.on_their_way.append(notice)

    def _check(self, notice: Notice) -> None:
        route = next(r for r in ROUTES if r.channel == notice.channel)
        assert notice.items
        for item in notice.items:
            story = self.heard.setdefault((notice.channel, item.alert.id), [])
            assert item.alert == self.alerts[item.alert.id], "what is told is how it is"
            assert not any(s.covers(item.alert, self.now) for s in self.silences)
            if item.status == "firing":
                assert RANK[item.alert.severity] >= RANK[route.minimum]
                assert not inhibited(item.alert, self.alerts.values())
                worst = max((RANK[severity] for _, _, severity in story), default=-1)
                if story and story[-1][1] == "firing" and RANK[item.alert.severity] <= worst:
                    assert self.now - story[-1][0] >= TIMING.repeat
                    assert item.alert.id not in self.acks or route.refreshes
            else:
                assert story[-1][1] == "firing"
                assert (notice.channel, item.alert.id) in self.arrived
            story.append((self.now, item.status, item.alert.severity))

    def arrive(self, good: bool) -> None:
        if self.on_their_way:
            notice = self.on_their_way.pop(0)
            if good:
                self.delivery.delivered(notice)
                self.arrived |= {(notice.channel, i.alert.id) for i in notice.items if i.status == "firing"}

    def change(self, which: int, severity: str, state: str) -> None:
        """Incident ``which`` of its fingerprint; once closed, the next one has a new id."""
        ids = [key for key in self.alerts if key % 6 == which]
        key = max(ids, default=which + 6)
        if ids and self.alerts[key].state not in OPEN_STATES:
            key += 6
        if key not in self.alerts and state not in OPEN_STATES:
            return
        rule, layer = RULES[which % 3], f"layer{which // 3}"
        one = alert(key, rule, severity, state, layer=layer, run="r", opened=self.now, updated=self.now)
        if key in self.alerts:
            one = replace(one, opened=self.alerts[key].opened)
        self.alerts[key] = one
        self.delivery.change(one)

    def restart(self) -> None:
        """All that outlives a process is the alerts and what was told."""
        self.delivery = Delivery(TIMING, ROUTES, self.alerts.values(), dict(self.delivery.told))
        self.delivery.mute(self.silences, self.acks)


@settings(max_examples=200, deadline=None)
@given(operations)
def test_whatever_happens_nothing_is_told_twice_too_early_or_never(history: list[tuple]) -> None:
    world = World()
    for name, *arguments in history:
        if name == "wait":
            world.now += arguments[0]
        elif name == "change":
            world.change(*arguments)
        elif name == "silence":
            world.silences.append(Silence("s", {"rule": arguments[0]}, world.now, world.now + arguments[1]))
        elif name == "ack":
            world.acks.add(max((key for key in world.alerts if key % 6 == arguments[0]), default=0))
        elif name == "arrive":
            world.arrive(*arguments)
        else:
            world.restart()
        world.delivery.mute(world.silences, world.acks)
        world.look()
    _settle(world)
    for one in world.alerts.values():
        for route in ROUTES:
            _check_final(world, one, route)


def _settle(world: World) -> None:
    """Time goes on, everything arrives, nothing else happens."""
    world.silences.clear()
    world.delivery.mute([], world.acks)
    for _ in range(40):
        world.now += 11
        world.look()
        while world.on_their_way:
            world.arrive(True)


def _check_final(world: World, one: Alert, route: Route) -> None:
    story = world.heard.get((route.channel, one.id), [])
    statuses = [status for _, status, _ in story]
    if one.state in OPEN_STATES:
        if route.takes(one) and not inhibited(one, world.alerts.values()):
            assert statuses, f"{route.channel} never heard of {one}"
            assert statuses[-1] == "firing"
            assert max(RANK[severity] for _, _, severity in story) >= RANK[one.severity]
        return
    told = (route.channel, one.id) in world.arrived
    fired = [RANK[severity] for _, status, severity in story if status == "firing"]
    worsened = max(fired, default=0) > min(fired, default=0)
    if told and (route.tells_ended or (one.state == "resolved" and not worsened)):
        assert statuses[-1] == "resolved"
    if one.state == "resolved" and not story:
        assert not told


@pytest.mark.parametrize("value", [math.nan, 0.5])
def test_the_key_is_the_notices_own(value: float) -> None:
    first = Delivery(TIMING, ROUTES, [alert(value=value)]).due(5, lambda _: True, hurry=True)
    again = Delivery(TIMING, ROUTES, [alert(value=value)]).due(5, lambda _: True, hurry=True)
    later = Delivery(TIMING, ROUTES, [alert(value=value)], {("chat", 1): Told("firing", "warning", 0.0, True)})
    assert [n.key for n in first] == [n.key for n in again]
    keys = {n.key for n in first} | {n.key for n in later.due(2000, lambda _: True, hurry=True)}
    assert len(keys) == 4
