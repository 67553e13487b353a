"""Whether a series rests, or falls so slowly that its noise hides it: how much the values speak for either.

"No fall is seen" is no evidence of rest: early in a run a slow start looks like that as well. So the values' likelihood
at rest is weighed against their likelihood in a fall, whose rate may be any within a range (a Bayes factor). Where the
noise hides both, the factor stays near one however often one looks. For a run that does fall it is a ratio of
likelihoods with mean one, and passes ``odds`` at any look at all with a probability of about ``1 / odds`` at most
(Ville's inequality): the chance of a false alarm is bounded per run, not per look.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cm_server.core.slope import Slope

_RATES = 32
_SHARPEST = 0.01
"""Nothing is known more precisely than to this share of the slowest fall."""


def rest_odds(slopes: Sequence[Slope], slowest: float, fastest: float) -> float:
    """How many times likelier the values are at rest than in a fall; infinite where no fall at all explains them.

    Since when the series may rest is not known, so the windows' factors are averaged.

    Args:
        slopes: one or more, over different windows that end at the same value.
        slowest, fastest: of the falls, per `SAMPLES` values; every size between them is as likely as its double.

    Example:
        >>> from cm_server.core.slope import Slope
        >>> precise, vague = Slope(0.0, 0.001, 40), Slope(0.0, 0.02, 20)
        >>> rest_odds([precise], 0.003, 0.04) > 100, round(rest_odds([vague], 0.003, 0.04), 1)
        (True, 1.3)
    """
    drop = np.array([slope.drop for slope in slopes])[:, None]
    error = np.array([max(slope.error, _SHARPEST * slowest) for slope in slopes])[:, None]
    rates = np.geomspace(slowest, fastest, _RATES)
    # The likelihood of a fall at each rate over that of rest, both normal about the drop.
    against = np.exp(np.clip((2 * drop - rates) * rates / (2 * error**2), -700, 700)).mean(axis=1)
    odds = float((1 / against).mean())
    return odds if math.isfinite(odds) else math.inf
