"""Who is to be told what: alerts in, notices out. Pure: no clock, no store, no network.

Nothing here reacts to single transitions. `Delivery.due` compares what each channel *has been told* of an alert with
what the alert *is*, and asks for the difference. So a restart is no special case: with the alerts and the `Told`
records read back, the same question gives the same answer, and what was told is not told again.

People hear of an incident twice at most: when it begins, and when it becomes an error or else is over. That an error is
over goes along with the next notice of its run; receivers that keep a list get it at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from cm_server.core.muting import inhibited
from cm_server.notices import FIRING, OPEN_STATES, RANK, RESOLVED, WORSE, Item, Notice, Silence, Told, matches
from cm_server.report import Alert

KEPT_SECONDS = 24 * 3600.0
"""How long a closed alert is remembered for a channel that still has to hear of its end."""


@dataclass(frozen=True)
class Timing:
    """When notices go out, in seconds.

    Attributes:
        group_wait: how long the first alert of a run waits for others, to go out with them.
        group_interval: least time between two notices of one run; a new error does not wait for it.
        repeat: a firing alert is told again after this long, while its run lives and nobody acknowledged it.
        fresh: an alert that nobody was told of is told late only if it is younger than this, or its run is alive.
    """

    group_wait: float = 15.0
    group_interval: float = 300.0
    repeat: float = 4 * 3600.0
    fresh: float = 3600.0


@dataclass(frozen=True)
class Route:
    """What one channel wants to hear.

    Attributes:
        channel: its name.
        minimum: lowest severity, ``warning`` or ``error``; ``info`` never goes out.
        runs, rules, layers: exact values or globs, any of which must match.
        tells_ended: tell also that a run ended while the alert was firing, and the end of everything that was told
            (receivers that keep a list need it).
        refreshes: repeat acknowledged alerts too (receivers that forget what is not repeated need it).
    """

    channel: str
    minimum: str = "warning"
    runs: tuple[str, ...] = ("*",)
    rules: tuple[str, ...] = ("*",)
    layers: tuple[str, ...] = ("*",)
    tells_ended: bool = False
    refreshes: bool = False

    def takes(self, alert: Alert) -> bool:
        """Whether the channel wants to hear of this alert."""
        if RANK.get(alert.severity, 0) < max(RANK[self.minimum], RANK["warning"]):
            return False
        filters = ((self.runs, alert.run), (self.rules, alert.rule), (self.layers, alert.layer))
        return all(any(matches(pattern, value) for pattern in patterns) for patterns, value in filters)


class Delivery:
    """Compares what alerts are with what channels know of them.

    Args:
        timing: when to tell.
        routes: the channels and what they want.
        alerts: those that are open, and those closed within `KEPT_SECONDS`.
        told: by channel and alert id.
    """

    def __init__(
        self,
        timing: Timing,
        routes: Iterable[Route],
        alerts: Iterable[Alert] = (),
        told: Mapping[tuple[str, int], Told] | None = None,
    ) -> None:
        self._timing, self._routes = timing, tuple(routes)
        self._alerts = {alert.id: alert for alert in alerts}
        self.told: dict[tuple[str, int], Told] = dict(told or {})
        self._silences: tuple[Silence, ...] = ()
        self._acknowledged: frozenset[int] = frozenset()
        self._waiting: dict[tuple[str, str], float] = {}
        self._sent: dict[tuple[str, str], float] = {}
        for (channel, alert), told_of in self.told.items():
            if alert in self._alerts:
                self._note_sent(channel, self._alerts[alert].run, told_of.at)

    def change(self, alert: Alert) -> None:
        """Takes an alert's new state."""
        self._alerts[alert.id] = alert

    def knows(self, alert: int) -> bool:
        """Whether an alert is still remembered."""
        return alert in self._alerts

    def mute(self, silences: Iterable[Silence], acknowledged: Iterable[int]) -> None:
        """Takes the silences and the ids of acknowledged alerts, all of them."""
        self._silences, self._acknowledged = tuple(silences), frozenset(acknowledged)

    def due(self, now: float, lives: Callable[[str], bool], *, hurry: bool = False) -> list[Notice]:
        """What is to go out now; asked again before `record`, it answers the same.

        Args:
            now: seconds since 1970, never smaller than before.
            lives: whether a run is still going on; a dead run's alerts are not repeated.
            hurry: the server stops: nothing waits for others.
        """
        self._forget(now)
        notices, waiting = [], {}
        for route in self._routes:
            for run, items in self._wanted(route, now, lives).items():
                if all(self._goes_along(route, item) for item in items):
                    continue
                key = (route.channel, run)
                waiting[key] = self._waiting.get(key, now)
                if hurry or self._ripe(key, waiting[key], items, now):
                    notices.append(_notice(route.channel, run, now, items))
        self._waiting = waiting
        return notices

    def told_by(self, notice: Notice) -> dict[int, Told]:
        """What the notice's channel will have been told once it is written down, by alert id."""
        return {item.alert.id: self._told(notice, item) for item in notice.items}

    def record(self, notice: Notice) -> None:
        """The notice is safely written down: its channel counts as told."""
        self.told |= {(notice.channel, alert): told for alert, told in self.told_by(notice).items()}
        self._note_sent(notice.channel, notice.run, notice.created)
        self._waiting.pop((notice.channel, notice.run), None)

    def delivered(self, notice: Notice) -> None:
        """The notice has arrived."""
        for item in notice.items:
            key = (notice.channel, item.alert.id)
            if item.status == FIRING and key in self.told:
                self.told[key] = replace(self.told[key], delivered=True)

    def _told(self, notice: Notice, item: Item) -> Told:
        before = self.told.get((notice.channel, item.alert.id))
        status = item.status
        if before is not None and before.status != RESOLVED and status == FIRING:
            rose = RANK.get(item.alert.severity, 0) > RANK.get(before.severity, 0)
            status = WORSE if rose else before.status
        severity = max((item.previous or "info", item.alert.severity), key=lambda s: RANK.get(s, 0))
        return Told(status, severity, notice.created, before is not None and before.delivered)

    def _goes_along(self, route: Route, item: Item) -> bool:
        """Whether an item is no reason for a notice, but has its place in one."""
        told = self.told.get((route.channel, item.alert.id))
        return item.status == RESOLVED and not route.tells_ended and told is not None and told.status == WORSE

    def _wanted(self, route: Route, now: float, lives: Callable[[str], bool]) -> dict[str, list[Item]]:
        found: dict[str, list[Item]] = {}
        for alert in self._alerts.values():
            status = self._status(route, alert, now, lives)
            if status is not None:
                told = self.told.get((route.channel, alert.id))
                found.setdefault(alert.run, []).append(Item(alert, status, told.severity if told else ""))
        return found

    def _status(self, route: Route, alert: Alert, now: float, lives: Callable[[str], bool]) -> str | None:
        told = self.told.get((route.channel, alert.id))
        if any(silence.covers(alert, now) for silence in self._silences):
            return None
        if alert.state in OPEN_STATES:
            wanted = route.takes(alert) and self._wants_firing(route, alert, told, now, lives)
            return FIRING if wanted and not inhibited(alert, self._alerts.values()) else None
        if told is None:  # over before anybody was told: a resolved one is no news, an ended one is
            late = alert.state == "ended" and route.takes(alert) and self._is_fresh(alert, now)
            return FIRING if late and not inhibited(alert, self._alerts.values()) else None
        if told.status != RESOLVED and told.delivered and (alert.state != "ended" or route.tells_ended):
            return RESOLVED
        return None

    def _wants_firing(
        self, route: Route, alert: Alert, told: Told | None, now: float, lives: Callable[[str], bool]
    ) -> bool:
        if told is None or told.status == RESOLVED:
            return self._is_fresh(alert, now) or lives(alert.run)
        if RANK.get(alert.severity, 0) > RANK.get(told.severity, 0):
            return True
        quiet = alert.id in self._acknowledged and not route.refreshes
        return now - told.at >= self._timing.repeat and not quiet and lives(alert.run)

    def _ripe(self, key: tuple[str, str], since: float, items: list[Item], now: float) -> bool:
        if now - since < self._timing.group_wait:
            return False
        urgent = any(i.status == FIRING and i.alert.severity == "error" and i.previous != "error" for i in items)
        return urgent or now - self._sent.get(key, -1e18) >= self._timing.group_interval

    def _is_fresh(self, alert: Alert, now: float) -> bool:
        return now - alert.updated < self._timing.fresh

    def _note_sent(self, channel: str, run: str, at: float) -> None:
        self._sent[channel, run] = max(at, self._sent.get((channel, run), at))

    def _forget(self, now: float) -> None:
        """Lets go of alerts that are over, so that a server that runs for months does not grow."""
        for alert in [a for a in self._alerts.values() if a.state not in OPEN_STATES]:
            open_ends = any(self.told[c, a].status != RESOLVED for c, a in self._told_of(alert.id))
            old = now - alert.updated > (KEPT_SECONDS if open_ends else self._timing.fresh)
            if old:
                del self._alerts[alert.id]
                for key in self._told_of(alert.id):
                    del self.told[key]

    def _told_of(self, alert: int) -> list[tuple[str, int]]:
        return [(r.channel, alert) for r in self._routes if (r.channel, alert) in self.told]


def _notice(channel: str, run: str, now: float, items: Iterable[Item]) -> Notice:
    ordered = tuple(sorted(items, key=lambda i: (i.status != FIRING, -RANK.get(i.alert.severity, 0), i.alert.id)))
    told = [f"{i.alert.id}:{i.alert.opened!r}:{i.status}:{i.alert.severity}" for i in ordered]
    text = "\n".join([channel, run, repr(now), *told])
    return Notice(hashlib.sha256(text.encode()).hexdigest()[:32], channel, run, now, ordered)
