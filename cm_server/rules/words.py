"""AnchorApproach: a group of units nears a word that it should keep away from, or leaves one it should stay with."""

from __future__ import annotations

from dataclasses import dataclass

from cm_server.core.alerting import Finding
from cm_server.core.trend import Track, Trend
from cm_server.core.watching import View
from cm_server.rules.base import RuleSettings, setting


@dataclass(frozen=True, kw_only=True)
class AnchorApproach(RuleSettings):
    """Follows the mean distance of the nearest units from each watched word (`LayerSummary.words`)."""

    share: float = setting(0.05, "change of the distance, as a share of what it was", 0, 1)
    sigmas: float = setting(5.0, "and standard errors of the level", 0, 100)

    def find(self, view: View) -> Finding | bool:
        """See `Rule`: the word that moved most, undesirable ones first."""
        if not view.last.words:
            return bool(view.words)
        near = [found for word in view.about.undesirable if (found := self._moved(view, word, nears=True))]
        far = [found for word in view.about.wanted if (found := self._moved(view, word, nears=False))]
        if not near + far:
            return False
        _, word, then, now, since = max(near or far)
        return Finding(
            "AnchorApproach",
            "warning",
            now,
            (_NEARS if near else _LEAVES).format(layer=view.last.layer, word=word, then=then, now=now, since=since),
            {"word": word, "then": then, "now": now, "since_step": since, "direction": "nears" if near else "leaves"},
        )

    def _moved(self, view: View, word: str, *, nears: bool) -> tuple[float, str, float, float, int] | None:
        track = view.words.get(word)
        if track is None or track.count < view.about.warm_up_planned:
            return None
        trend = track.trend()
        then, moved, sure = _approach(track, trend) if nears else _leave(trend)
        open_finding = view.open.get(self.name)
        ease = 0.5 if open_finding is not None and open_finding.details.get("word") == word else 1.0
        if moved < ease * self.share * then or sure < ease * self.sigmas:
            return None
        return moved / then, word, then, trend.level, track.first_step if nears else trend.best_step


def _approach(track: Track, trend: Trend) -> tuple[float, float, float]:
    moved = track.start - trend.level
    return track.start, moved, moved / max(trend.noise.long_run * (1 / 3 + 1 / 5) ** 0.5, 1e-9)


def _leave(trend: Trend) -> tuple[float, float, float]:
    moved = trend.level - trend.best
    return trend.best, moved, moved / max(trend.noise.long_run * (1 / 9 + 1 / 5) ** 0.5, 1e-9)


_NEARS = (
    "{layer}: a group of units nears “{word}”, a word you called undesirable. Their mean distance was {then:.3f} "
    "at step {since:,} and is {now:.3f} now. The network may be learning a short cut: look at the images these units "
    "respond to most, and at what in the training data comes with that word."
)
_LEAVES = (
    "{layer}: the units nearest to “{word}”, a word you want kept, are leaving it. Their mean distance was {then:.3f} "
    "around step {since:,} and is {now:.3f} now. What the network knew about it is being overwritten: look at how much "
    "of the training data still shows it."
)
