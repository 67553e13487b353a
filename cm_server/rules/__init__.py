"""Rules read a layer's series, or a run's flow, and say what they find; the alert machine decides what becomes of it.

A rule is a frozen dataclass derived from `RuleSettings`, whose fields are its settings in TOML, with a method ``find``
(see :class:`cm_server.core.watching.Rule`) or ``find_flow`` (:class:`cm_server.core.flow.FlowRule`). Others' rules are
found by the entry point group ``concept_monitor.rules``; `check_rule` tells what is wrong with one.
"""

from cm_server.rules.base import RuleSettings, setting
from cm_server.rules.book import LayerSettings, RuleBook
from cm_server.rules.catalogue import FLOW_RULES, LAYER_RULES, check_rule, known_rules

__all__ = [
    "FLOW_RULES",
    "LAYER_RULES",
    "LayerSettings",
    "RuleBook",
    "RuleSettings",
    "check_rule",
    "known_rules",
    "setting",
]
