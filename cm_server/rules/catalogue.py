"""Which rules there are: ours, in the order in which they are asked, then those of other packages."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.metadata import entry_points

from cm_server.rules.base import RuleSettings
from cm_server.rules.flow import NoData, StreamDrops
from cm_server.rules.reference import BelowReference
from cm_server.rules.rise import ConceptJump, ConceptRise
from cm_server.rules.stall import ConceptPlateau, ConceptStall
from cm_server.rules.undefined import DeadLayer, NonFinite
from cm_server.rules.units import DeadUnits, InterpretableCollapse, MissingCategories
from cm_server.rules.words import AnchorApproach

logger = logging.getLogger(__name__)

GROUP = "concept_monitor.rules"
LAYER_RULES: tuple[type[RuleSettings], ...] = (
    NonFinite,
    DeadLayer,
    ConceptJump,
    ConceptRise,
    ConceptStall,
    ConceptPlateau,
    DeadUnits,
    InterpretableCollapse,
    MissingCategories,
    AnchorApproach,
    BelowReference,
)
FLOW_RULES: tuple[type[RuleSettings], ...] = (NoData, StreamDrops)


@cache
def known_rules() -> Mapping[str, type[RuleSettings]]:
    """Every rule by name; an installed one that is not fit is left out, with a log line that says why."""
    found = {rule.__name__: rule for rule in (*LAYER_RULES, *FLOW_RULES)}
    for point in entry_points(group=GROUP):
        try:
            rule = point.load()
            check_rule(rule)
            if rule.__name__ in found and found[rule.__name__] is not rule:
                raise TypeError(f"a rule named {rule.__name__} exists already: give it another name")
        except Exception as error:  # another package's code: whatever it does, our rules go on
            logger.warning("rule %s (%s) is not used: %s", point.name, point.value, error)
            continue
        found[rule.__name__] = rule
    return found


def check_rule(rule: object) -> None:
    """Contract check of a rule's class, for its author's tests too.

    Raises:
        TypeError: what is wrong, in words.
    """
    if not (isinstance(rule, type) and issubclass(rule, RuleSettings) and is_dataclass(rule)):
        raise TypeError(f"{rule!r} is not a dataclass derived from cm_server.rules.RuleSettings")
    if not rule.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise TypeError(f"{rule.__name__} is not frozen: use @dataclass(frozen=True, kw_only=True)")
    if hasattr(rule, "find") == hasattr(rule, "find_flow"):
        raise TypeError(f"{rule.__name__} needs either find(view) or find_flow(view)")
    for each in fields(rule):
        if "help" not in each.metadata:
            raise TypeError(f"{rule.__name__}.{each.name} has no help: declare it with setting(default, help)")
    rule()
