"""Settings of the rules from TOML: who overrides whom, and what a mistake is answered with."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

import pytest

from cm_server.config import ConfigError
from cm_server.rules import RuleBook, RuleSettings, check_rule, known_rules, setting

FULL = """
expect = "fall"
warm_up = 30
undesirable = ["gender"]
[ConceptStall]
progress = 0.03
[layer."layer[12]"]
expect = "any"
[run."finetune-*"]
expect = "rise"
layers = ["all"]
ConceptStall.enabled = false
[run."finetune-*".layer.layer4]
wanted = ["dog"]
ConceptJump = { hold = 7 }
"""


def _book(tmp_path: Path, text: str) -> RuleBook:
    (tmp_path / "rules.toml").write_text(text)
    return RuleBook.from_file(tmp_path / "rules.toml")


def _rule(settings, name: str):
    return next((rule for rule in settings.rules if rule.name == name), None)


def test_the_more_particular_table_wins(tmp_path: Path) -> None:
    book = _book(tmp_path, FULL)
    plain, tuning = book.settings("r1", "r1", "layer4"), book.settings("x", "finetune-7", "layer4")
    assert (plain.about.expect, plain.about.warm_up, _rule(plain, "ConceptStall").progress) == ("fall", 30, 0.03)
    assert book.settings("r1", "r1", "layer2").about.expect == "any"
    assert book.settings("x", "finetune-7", "layer2").about.expect == "rise"
    assert (tuning.about.expect, tuning.layers, tuning.about.wanted) == ("rise", ("all",), ("dog",))
    assert _rule(tuning, "ConceptStall") is None
    assert (_rule(tuning, "ConceptJump").hold, _rule(plain, "ConceptJump").hold) == (7, 2)
    assert book.watched_words() == ("gender", "dog")


def test_a_table_named_alerts_is_the_same_as_the_whole_file(tmp_path: Path) -> None:
    text = '[alerts]\nexpect = "any"\n[server]\nencoder = "conse"\n'
    assert _book(tmp_path, text).settings().about.expect == "any"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("[ConceptStal]\n", "rules.toml: ConceptStal is unknown: did you mean 'ConceptStall'?"),
        ("[ConceptStall]\nprogres = 1\n", "ConceptStall.progres is unknown: did you mean 'progress'?"),
        ("[ConceptStall]\nprogress = 1.5\n", "ConceptStall.progress is 1.5: give 1 or less"),
        ("[ConceptStall]\nhold = 0\n", "ConceptStall.hold is 0: give 1 or more"),
        ("[ConceptStall]\nhold = 2.5\n", "ConceptStall.hold is 2.5: give a whole number"),
        ('[ConceptStall]\nprogress = "much"\n', "ConceptStall.progress is 'much': give a number"),
        ("[ConceptStall]\nenabled = 1\n", "ConceptStall.enabled is 1: give true or false"),
        ("ConceptStall = 3\n", "ConceptStall is 3: give a table of settings"),
        ('expect = "fal"\n', "expect is 'fal': choose one of fall, any, rise"),
        ('[run."a*"]\nexpect = "up"\n', "run.a* expect is 'up'"),
        ('[run."a*"]\nwarmup = 3\n', "run.a*.warmup is unknown: did you mean 'warm_up'?"),
        ("run = 3\n", "run is 3: give tables named by patterns"),
        ('undesirable = "gender"\n', "undesirable is 'gender': give a list of texts"),
        ('[layer.a.layer.b]\nexpect = "any"\n', "layer.a.layer is unknown"),
        ("expect = \n", "cannot be read as TOML"),
    ],
)
def test_a_mistake_is_answered_with_file_key_and_cure(tmp_path: Path, text: str, answer: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _book(tmp_path, text)
    assert answer in str(caught.value)
    assert "rules.toml" in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--rules is '.*gone.toml': no such file"):
        RuleBook.from_file(tmp_path / "gone.toml")


@pytest.mark.parametrize("rule", known_rules().values(), ids=str)
def test_our_rules_keep_the_contract(rule: type[RuleSettings]) -> None:
    check_rule(rule)


@dataclass(frozen=True, kw_only=True)
class Visitor(RuleSettings):
    """A rule of another package."""

    much: float = setting(0.5, "how much", 0, 1)

    def find(self, view) -> bool:
        return False


def test_rules_of_other_packages_are_found_and_unfit_ones_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    points = [
        importlib.metadata.EntryPoint("visitor", f"{__name__}:Visitor", "concept_monitor.rules"),
        importlib.metadata.EntryPoint("unfit", "builtins:dict", "concept_monitor.rules"),
        importlib.metadata.EntryPoint("gone", "no_such_package:rule", "concept_monitor.rules"),
    ]
    monkeypatch.setattr("cm_server.rules.catalogue.entry_points", lambda group: points)
    known_rules.cache_clear()
    try:
        settings = RuleBook({"Visitor": {"much": 0.25}}).settings()
    finally:
        monkeypatch.undo()
        known_rules.cache_clear()
    assert settings.rules[-1] == Visitor(much=0.25)
    assert "unfit" in caplog.text
    assert "no_such_package" in caplog.text
