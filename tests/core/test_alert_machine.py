"""The alert machine's laws."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from cm_server.core.alerting import CLEAR, GROWING, HOLD, AlertMachine, Finding, Patience, Severity


def _finding(severity: Severity = "warning", at_once: bool = False, growing: bool = False) -> Finding:
    return Finding("R", severity, 0.5, "words", at_once=at_once, growing=growing)


def _fire(machine: AlertMachine) -> None:
    for step in range(HOLD):
        machine.evaluate(step, [_finding()])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.booleans(), max_size=60))
def test_it_never_fires_twice_without_resolving(seen: list[bool]) -> None:
    machine, told = AlertMachine(), []
    for step, here in enumerate(seen):
        told += [c.state for c in machine.evaluate(step, [_finding()] if here else []) if c.told]
    assert told == [("firing", "resolved")[i % 2] for i in range(len(told))]
    longest = max((len(run) for run in "".join("x" if s else " " for s in seen).split()), default=0)
    assert ("firing" in told) == (longest >= HOLD)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["", "warning", "error"]), max_size=60))
def test_news_is_only_what_is_worse_or_over(seen: list) -> None:
    machine, told = AlertMachine(), []
    for step, severity in enumerate(seen):
        told += [c for c in machine.evaluate(step, [_finding(severity)] if severity else []) if c.told]
    for before, after in pairwise(told):
        if before.state == after.state == "firing":
            assert (before.finding.severity, after.finding.severity) == ("warning", "error")
    assert all(change.loudness == "info" for change in told if change.state == "resolved")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([None, True, False]), max_size=40))
def test_a_snapshot_that_says_nothing_changes_nothing(seen: list) -> None:
    """None: no value arrived."""

    def told(values: list) -> list[str]:
        machine, found = AlertMachine(), []
        for here in values:
            found += machine.evaluate(0, [_finding()] if here else [], {"R"} if here is None else ())
        return [change.state for change in found]

    assert told(seen) == told([here for here in seen if here is not None])


def test_every_state_is_passed_through() -> None:
    machine, states = AlertMachine(), []
    for here in [True] * HOLD + [False] * 2 + [True] + [False] * CLEAR:
        states += [(c.state, c.told) for c in machine.evaluate(0, [_finding()] if here else [])]
    assert states == [
        ("pending", False),
        ("firing", True),
        ("recovering", False),
        ("firing", False),
        ("recovering", False),
        ("resolved", True),
    ]


def test_a_worse_severity_is_told_once_and_the_runs_end_ends_it() -> None:
    machine = AlertMachine()
    _fire(machine)
    assert [c.finding.severity for c in machine.evaluate(9, [_finding("error")])] == ["error"]
    for severity in ("error", "warning", "error"):
        assert machine.evaluate(10, [_finding(severity)]) == []
    assert [(c.state, c.told) for c in machine.end(11)] == [("ended", True)]
    assert machine.end(12) == []


def test_a_rule_may_be_quick_and_a_finding_may_not_wait_at_all() -> None:
    machine = AlertMachine({"R": Patience(hold=1, clear=2)})
    assert [c.state for c in machine.evaluate(0, [_finding()])] == ["firing"]
    assert [c.state for i in (1, 2) for c in machine.evaluate(i, [])] == ["recovering", "resolved"]
    assert [c.state for c in AlertMachine().evaluate(0, [_finding(at_once=True)])] == ["firing"]


def test_a_warning_that_grows_is_told_once_as_an_error_or_after_a_while() -> None:
    machine = AlertMachine()
    for step in range(HOLD + 1):
        assert not any(change.told for change in machine.evaluate(step, [_finding(growing=True)]))
    assert [c.loudness for c in machine.evaluate(9, [_finding("error")])] == ["error"]
    machine = AlertMachine()
    told = [machine.evaluate(step, [_finding(growing=True)]) for step in range(HOLD + GROWING)]
    assert [any(c.told for c in changes) for changes in told] == [False] * (HOLD + GROWING - 1) + [True]
    machine = AlertMachine()
    for step in range(HOLD):
        machine.evaluate(step, [_finding(growing=True)])
    assert [c.loudness for c in machine.evaluate(9, [_finding()])] == ["warning"], "it grows no more"


def test_a_restored_alert_fires_without_saying_so_again() -> None:
    machine = AlertMachine()
    machine.restore(_finding())
    assert machine.evaluate(1, [_finding()]) == []
    assert [c.state for _ in range(CLEAR) for c in machine.evaluate(2, []) if c.told] == ["resolved"]
