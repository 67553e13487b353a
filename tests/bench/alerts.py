"""How well the alert rules do against patience counters, Page-Hinkley and ADWIN, on labelled and on real series.

Simulated series come from `alert_series` (thresholds were chosen on ``tuned``; ``held-out`` has other shapes, noise and
ranges) and `alert_fresh`, real ones from ``tests/data/alerts``. Every method sees the same values in the same order.
False warnings are healthy runs with any; recall counts stalls and rises with 120 snapshots or more after their onset;
delays are in snapshots, for stalls, and for rises of 0.03 or more. Notices are what a channel for people hears of a
sick run from the onset on: that it begins, gets worse, or is over.

    python tests/bench/alerts.py --runs 1000
    python tests/bench/alerts.py --world held-out --runs 1000 --seed 5 --json
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from alert_fresh import FRESH
from alert_notices import notices
from alert_series import HELD_OUT, TUNED, Series, draw

from cm_server.rules import RuleBook
from cm_server.rules.history import plain_summary, read_history
from cm_server.rules.replay import Sample, replay

WORLDS = {"tuned": TUNED, "held-out": HELD_OUT, "fresh": FRESH}
REAL = Path(__file__).parents[1] / "data" / "alerts"
LONG = 120
LARGE = 0.03
_ADWIN_UNIT = 0.02
"""ADWIN's bound is made for values that fill [0, 1]; of d_anchor as it is it would see nothing at all."""
Alarm = tuple[str, int]
"""What it says (``stall``, ``rise`` or ``alarm``; ``notice``: people hear something) and at which snapshot."""
_KIND = {"ConceptStall": "stall", "ConceptRise": "rise", "ConceptJump": "rise"}


def ours(series: Series) -> list[Alarm]:
    """The live engine, told of values only."""
    settings = RuleBook({"expect": series.expect}).settings()
    events = list(replay(samples(series.values), settings))
    alarms = [
        (_KIND.get(event.transition.rule, "alarm"), event.index)
        for event in events
        if event.transition.told and event.transition.loudness != "info"
    ]
    return alarms + [("notice", at) for at in notices(events)]


def samples(values: np.ndarray) -> Iterator[Sample]:
    """Values as snapshots; NaN is a capture that never arrived."""
    for index, value in enumerate(values):
        yield Sample(index, index * 10, plain_summary(float(value)) if np.isfinite(value) else None)


def patience(snapshots: int) -> Callable[[Series], list[Alarm]]:
    """Early stopping's counter: no new smallest value for so many snapshots."""

    def watch(series: Series) -> list[Alarm]:
        best, since = np.inf, 0
        for index, value in enumerate(series.values):
            if not np.isfinite(value):
                continue
            best, since = (value, 0) if value < best else (best, since + 1)
            if since == snapshots:
                return [("alarm", index)]
        return []

    return watch


def page_hinkley(threshold: float) -> Callable[[Series], list[Alarm]]:
    """River's Page-Hinkley test for a rise of the mean."""

    def watch(series: Series) -> list[Alarm]:
        from river.drift import PageHinkley

        detector = PageHinkley(min_instances=25, delta=0.002, threshold=threshold, mode="up")
        return _river(detector, series, lambda: True, 1.0)

    return watch


def adwin(delta: float) -> Callable[[Series], list[Alarm]]:
    """River's ADWIN; a change to a lower mean is what everybody hopes for, and no alarm."""

    def watch(series: Series) -> list[Alarm]:
        from river.drift import ADWIN

        detector = ADWIN(delta=delta, clock=1, grace_period=5)
        means: list[float] = []

        def rose() -> bool:
            means.append(detector.estimation)
            return len(means) > 1 and means[-1] > means[-2]

        return _river(detector, series, rose, _ADWIN_UNIT)

    return watch


def _river(detector, series: Series, counts: Callable[[], bool], unit: float) -> list[Alarm]:
    for index, value in enumerate(series.values):
        if np.isfinite(value):
            detector.update(float(value) / unit)
            if detector.drift_detected and counts():
                return [("rise", index)]
    return []


METHODS: dict[str, Callable[[Series], list[Alarm]]] = {
    "rules": ours,
    "patience 20": patience(20),
    "patience 50": patience(50),
    "Page-Hinkley 0.05": page_hinkley(0.05),
    "Page-Hinkley 0.2": page_hinkley(0.2),
    "ADWIN 0.002": adwin(0.002),
    "ADWIN 1e-6": adwin(1e-6),
}


@dataclass
class Score:
    """What a method did."""

    healthy: int = 0
    false_runs: int = 0
    false_by_family: Counter = field(default_factory=Counter)
    found: dict[str, list[bool]] = field(default_factory=lambda: {"stall": [], "rise": []})
    delays: dict[str, list[int]] = field(default_factory=lambda: {"stall": [], "rise": []})
    notices: list[int] = field(default_factory=list)
    before_onset: int = 0
    seconds: float = 0.0
    snapshots: int = 0

    def add(self, series: Series, said: Sequence[Alarm]) -> None:
        """Takes one run."""
        alarms = [alarm for alarm in said if alarm[0] != "notice"]
        heard = [at for kind, at in said if kind == "notice"] or [at for _, at in alarms]
        if series.incident == "none":
            self.healthy += 1
            self.false_runs += bool(alarms)
            self.false_by_family[series.family] += bool(alarms)
            return
        # A method that only says "alarm" is believed to mean whatever is wrong.
        hits = [at for kind, at in alarms if at >= series.onset and kind in (series.incident, "alarm")]
        self.before_onset += any(at < series.onset for _, at in alarms)
        if len(series.values) - series.onset >= LONG:
            self.found[series.incident].append(bool(hits))
        if hits:
            self.notices.append(sum(at >= series.onset for at in heard))
            if series.incident == "stall" or series.amount >= LARGE:
                self.delays[series.incident].append(hits[0] - series.onset)

    def figures(self) -> dict[str, object]:
        """As reported."""
        shares = {kind: _mean(found) for kind, found in self.found.items()}
        return {
            "healthy_runs": self.healthy,
            "false_per_1000": round(1000 * self.false_runs / max(1, self.healthy), 1),
            "false_by_family": {family: n for family, n in self.false_by_family.items() if n},
            "recall": shares,
            "long_incidents": {kind: len(found) for kind, found in self.found.items()},
            "delay_median": {kind: _percentile(d, 50) for kind, d in self.delays.items()},
            "delay_p90": {kind: _percentile(d, 90) for kind, d in self.delays.items()},
            "notices_per_incident": _mean(self.notices),
            "most_notices": max(self.notices, default=None),
            "sick_runs_with_alarm_before_onset": self.before_onset,
            "microseconds_per_snapshot": round(1e6 * self.seconds / max(1, self.snapshots)),
        }


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 3) if values else None


def _percentile(values: Sequence[float], share: float) -> float | None:
    return round(float(np.percentile(values, share)), 1) if values else None


def judge(watch: Callable[[Series], list[Alarm]], all_series: Iterable[Series]) -> Score:
    """Runs one method over all series."""
    score = Score()
    for series in all_series:
        began = time.perf_counter()
        alarms = watch(series)
        score.seconds += time.perf_counter() - began
        score.snapshots += len(series.values)
        score.add(series, alarms)
    return score


def real_runs(folder: Path) -> list[dict[str, object]]:
    """What the rules say about each real run, with its scale and from values alone."""
    rows = []
    with (folder / "runs.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            [history] = read_history(folder / row["file"]).values()
            book = RuleBook({"expect": "any"} if row["cause"] == "fine-tuning" else {})
            bare = [Sample(s.index, s.step, plain_summary(s.summary.d_anchor)) for s in history if s.summary]
            rows.append(
                {
                    "file": row["file"],
                    "cause": row["cause"],
                    "verdict": row["verdict"],
                    "warnings": _warnings(replay(history, book.settings(), int(row["steps"]))),
                    "warnings_from_values_alone": _warnings(replay(bare, book.settings(), int(row["steps"]))),
                }
            )
    return rows


def _warnings(events) -> list[str]:
    return [
        f"{event.transition.loudness} {event.transition.rule} @{event.index}"
        for event in events
        if event.transition.told and event.transition.loudness != "info"
    ]


def main() -> int:
    """Draws, judges, prints."""
    options = _parse()
    world = WORLDS[options.world]
    drawn = [s for kind in ("healthy", "sick") for s in draw(world, kind, options.runs, options.seed)]
    chosen = options.methods or list(METHODS)
    figures = {name: judge(METHODS[name], drawn).figures() for name in chosen}
    real = real_runs(REAL) if options.real else []
    if options.json:
        about = {"world": options.world, "runs": options.runs, "seed": options.seed}
        print(json.dumps({**about, "methods": figures, "real": real}, indent=2))
        return 0
    _print(figures)
    for row in real:
        print(f"{row['verdict']:<9} {row['file']:<36} {', '.join(row['warnings']) or 'silent'}")  # type: ignore[arg-type]
    return 0


def _print(figures: dict[str, dict]) -> None:
    print(
        f"{'method':<18} false/1000   recall stall  rise    delay stall p50 p90   rise p50 p90   notices      most"
        "   us/snapshot"
    )
    for name, f in figures.items():
        delays = [f[key][kind] for kind in ("stall", "rise") for key in ("delay_median", "delay_p90")]
        cells = [
            f["false_per_1000"],
            f["recall"]["stall"],
            f["recall"]["rise"],
            *delays,
            f["notices_per_incident"],
            f["most_notices"],
        ]
        print(f"{name:<18} " + "  ".join(f"{c if c is not None else '-':>9}" for c in cells), end="")
        print(f"  {f['microseconds_per_snapshot']:>8}")
    print(f"false warnings of the rules by family: {next(iter(figures.values()))['false_by_family'] or 'none'}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", choices=list(WORLDS), default="tuned", help="which simulator")
    parser.add_argument("--runs", type=int, default=1000, help="healthy runs, and as many sick ones")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), help="only these")
    parser.add_argument("--real", action=argparse.BooleanOptionalAction, default=True, help="the saved real runs too")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
