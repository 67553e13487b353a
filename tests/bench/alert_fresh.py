"""A third labelled world, written before the rules were last worked on and looked at only when that was done.

Its shapes are those of other schedules than in `alert_series`, its noise fades as the learning rate does, and its sick
runs wander, hump and overshoot.
"""

from __future__ import annotations

import numpy as np
from alert_series import Random, World, beginning, ending, fallen

Drawn = tuple[np.ndarray, dict]


def _between(start: float, end: float, share: np.ndarray) -> np.ndarray:
    """From start to end; ``share`` 0 to 1 is how much of the way is gone."""
    return start - (start - end) * share


def _logarithmic(rng: Random, n: int) -> Drawn:
    start, scale = beginning(rng), n * np.exp(rng.uniform(np.log(0.01), np.log(0.5)))
    return _between(start, ending(rng, start), np.log1p(np.arange(n) / scale) / np.log1p(n / scale)), {}


def _stretched(rng: Random, n: int) -> Drawn:
    start, scale = beginning(rng), n * rng.uniform(0.04, 0.35)
    share = 1 - np.exp(-((np.arange(n) / scale) ** rng.uniform(0.4, 1.3)))
    return _between(start, ending(rng, start), share), {}


def _linear(rng: Random, n: int) -> Drawn:
    """A learning rate that falls linearly: straight to the end, or to rest before it."""
    start = beginning(rng)
    return _between(start, ending(rng, start), np.minimum(1, np.arange(n) / (n * rng.uniform(0.3, 1.0)))), {}


def _warmed_up(rng: Random, n: int) -> Drawn:
    """The step size grows linearly for a while, then falls as one over the root of time."""
    start, t, warm = beginning(rng), np.arange(n), rng.uniform(4, 20)
    rate = np.minimum(t / warm, np.sqrt(warm / np.maximum(t, 1)))
    share = 1 - np.exp(-np.cumsum(rate) / (n * rng.uniform(0.02, 0.15)))
    return _between(start, ending(rng, start), share / share[-1]), {}


def _gompertz(rng: Random, n: int) -> Drawn:
    """Slow at first, quick, then slow for long."""
    start, t = beginning(rng), np.arange(n)
    share = np.exp(-rng.uniform(2, 5) * np.exp(-t / rng.uniform(6, 0.12 * n + 6)))
    return _between(start, ending(rng, start), (share - share[0]) / (1 - share[0])), {}


def _restarts(rng: Random, n: int) -> Drawn:
    """Warm restarts: each cycle falls by less than the one before, and begins with a bump below 0.6 % of the start."""
    start, t = beginning(rng), np.arange(n)
    length = n / rng.integers(2, 5)
    place, cycle = (t % length) / length, t // length
    share = 1 - 0.35**cycle * (0.35 + 0.65 * np.cos(np.pi * place / 2))
    bump = np.where(cycle > 0, np.exp(-place * length / 3), 0) * start * rng.uniform(0, 0.006)
    return _between(start, ending(rng, start), share / share[-1]) + bump, {}


def _two_rests(rng: Random, n: int) -> Drawn:
    """Falls, rests for a third of the run, and falls again."""
    start, t = beginning(rng), np.arange(n)
    first, rate = rng.uniform(0.45, 0.75), n * rng.uniform(0.02, 0.06)
    again = np.clip(t - n * rng.uniform(0.45, 0.6), 0, None)
    share = first * (1 - np.exp(-t / rate)) + (1 - first) * (1 - np.exp(-again / rate))
    return _between(start, ending(rng, start), share), {}


def _tuned(rng: Random, n: int) -> Drawn:
    """Fine-tuning that still falls, by the logarithm of time."""
    start, scale = rng.uniform(0.3, 0.45), n * rng.uniform(0.01, 0.1)
    share = np.log1p(np.arange(n) / scale) / np.log1p(n / scale)
    return _between(start, start * (1 - rng.uniform(0.08, 0.2)), share), {}


def _wandering(rng: Random, n: int) -> Drawn:
    """Learns nothing; a slow wave of 0.1 % of the start is all that moves."""
    start = beginning(rng)
    wave = np.sin(2 * np.pi * np.arange(n) / rng.uniform(50, 200) + rng.uniform(0, 2 * np.pi))
    return start * (1 + 0.001 * wave), {"incident": "stall", "onset": 0}


def _humped_stall(rng: Random, n: int) -> Drawn:
    """The first steps shake it, and it comes to rest near where it began."""
    start, t, peak = beginning(rng), np.arange(n), rng.uniform(2, 6)
    hump = rng.uniform(0.005, 0.05) * (t / peak) * np.exp(1 - t / peak)
    won = rng.uniform(0, 0.02) * (1 - np.exp(-t / peak))
    return start * (1 + hump - won), {"incident": "stall", "onset": int(5 * peak)}


def _straight_rise(rng: Random, n: int) -> Drawn:
    """Rises by a straight line until the end, or by a quarter at most."""
    curve, onset = fallen(rng, n)
    t = np.clip(np.arange(n) - onset, 0, None)
    rate = rng.uniform(0.02, 0.1) / rng.uniform(20, 80)
    risen = np.where(t > 0, curve[onset], curve) + np.minimum(0.25, rate * t)
    return risen, {"incident": "rise", "onset": onset, "amount": float(risen[-1] - curve[onset])}


def _overshooting_jump(rng: Random, n: int) -> Drawn:
    """Jumps, and falls back by half within ten snapshots or so."""
    curve, onset = fallen(rng, n)
    amount = rng.uniform(0.03, 0.12)
    t = np.clip(np.arange(n) - onset, 0, None)
    up = amount * (1 + np.exp(-t / rng.uniform(2, 6)))
    return np.where(np.arange(n) >= onset, curve[onset] + up, curve), {
        "incident": "rise",
        "onset": onset,
        "amount": amount,
    }


FRESH = World(
    healthy={
        "logarithmic": _logarithmic,
        "stretched": _stretched,
        "linear": _linear,
        "warmed up": _warmed_up,
        "Gompertz": _gompertz,
        "restarts": _restarts,
        "two rests": _two_rests,
        "fine-tuning": _tuned,
    },
    sick={
        "wandering": _wandering,
        "humped stall": _humped_stall,
        "straight rise": _straight_rise,
        "overshooting jump": _overshooting_jump,
    },
    sigma=(0.0005, 0.012),
    rho=(0.0, 0.7),
    outliers=0.04,
    gaps=0.15,
    tails=5,
    fading=0.3,
)
"""Other shapes, noise and ranges than either of the others."""
