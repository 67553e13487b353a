"""``concept-monitor alerts backtest`` and ``alerts rules``, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from plain_report import ARRAYS

from cm_server.cli import main
from cm_server.report import LayerReport, SnapshotReport
from cm_server.rules.history import plain_summary
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter

FLAT = 0.5 + np.random.default_rng(0).normal(0, 0.002, 60)


def _csv(tmp_path: Path, rows: str) -> str:
    path = tmp_path / "history.csv"
    path.write_text(rows)
    return str(path)


def _flat(tmp_path: Path, header: str = "step,d_anchor", more: str = "") -> str:
    return _csv(tmp_path, header + "\n" + "".join(f"{10 * i},{v:.5f}{more}\n" for i, v in enumerate(FLAT)))


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["alerts", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_json_lists_every_transition_with_its_row(tmp_path: Path, capsys) -> None:
    code, out, err = _run(capsys, "backtest", _flat(tmp_path), "--json")
    told = json.loads(out)
    assert (code, err, list(told)) == (0, "", ["alerts"])
    assert [(a["rule"], a["state"], a["severity"]) for a in told["alerts"]] == [
        ("ConceptStall", "firing", "warning"),
        ("ConceptStall", "ended", "info"),
    ]
    first, last = told["alerts"]
    assert set(first) == {"rule", "state", "severity", "step", "index", "value", "message"}
    assert first["step"] == 10 * first["index"]
    assert (last["index"], last["step"]) == (59, 590)
    assert first["value"] == pytest.approx(0.5, abs=0.01)


def test_text_is_one_line_a_transition_and_verbose_shows_the_machine(tmp_path: Path, capsys) -> None:
    path = _flat(tmp_path)
    lines = _run(capsys, "backtest", path)[1].splitlines()
    assert [line.split(":")[0].split()[-2:] for line in lines] == [
        ["ConceptStall", "firing"],
        ["ConceptStall", "ended"],
    ]
    patient = tmp_path / "patient.toml"
    patient.write_text("ConceptStall.hold = 3\n")
    assert "ConceptStall pending" in _run(capsys, "backtest", path, "--verbose", "--rules", str(patient))[1]
    assert _run(capsys, "backtest", _csv(tmp_path, "step,d_anchor\n0,0.5\n"))[1].startswith("nothing to report")


def test_rules_profile_and_planned_length_change_what_is_said(tmp_path: Path, capsys) -> None:
    path = _flat(tmp_path)
    rules = tmp_path / "rules.toml"
    rules.write_text('expect = "any"\n')
    assert json.loads(_run(capsys, "backtest", path, "--json", "--rules", str(rules))[1]) == {"alerts": []}
    assert json.loads(_run(capsys, "backtest", path, "--json", "--expect", "rise")[1]) == {"alerts": []}
    planned = json.loads(_run(capsys, "backtest", path, "--json", "--planned-steps", "900")[1])["alerts"]
    assert [a["severity"] for a in planned] == ["warning", "error", "info"]


def test_other_columns_are_used_where_they_are_known(tmp_path: Path, capsys) -> None:
    scaled = _flat(tmp_path, "step,d_anchor,chance,ideal,note", ",5.0,0.1,hello")
    assert json.loads(_run(capsys, "backtest", scaled, "--json")[1])["alerts"][0]["rule"] == "ConceptStall"
    dead = _csv(tmp_path, "step,d_anchor,units,live\n0,0.5,10,10\n1,nan,10,0\n")
    [alert, _] = json.loads(_run(capsys, "backtest", dead, "--json")[1])["alerts"]
    assert (alert["rule"], alert["index"], alert["value"]) == ("DeadLayer", 1, None)
    quiet = _csv(tmp_path, "step,d_anchor,time\n" + "".join(f"{i},0.5,{10 * i + 9000 * (i > 5)}\n" for i in range(9)))
    told = json.loads(_run(capsys, "backtest", quiet, "--json")[1])["alerts"]
    assert [(a["rule"], a["state"], a["index"]) for a in told] == [("NoData", "firing", 6), ("NoData", "resolved", 6)]


def test_an_empty_value_is_a_gap_and_nan_is_an_error(tmp_path: Path, capsys) -> None:
    assert json.loads(_run(capsys, "backtest", _csv(tmp_path, "step,d_anchor\n0,0.5\n1,\n2,0.5\n"), "--json")[1]) == {
        "alerts": []
    }
    for bad in ("nan", "inf", "-inf"):
        told = json.loads(_run(capsys, "backtest", _csv(tmp_path, f"step,d_anchor\n0,0.5\n1,{bad}\n"), "--json")[1])
        first = told["alerts"][0]
        assert (first["rule"], first["severity"], first["index"]) == ("NonFinite", "error", 1)


@pytest.mark.parametrize(
    ("rows", "answer"),
    [
        ("", "no column step and no column d_anchor in the header"),
        ("step,loss\n0,1\n", "no column d_anchor in the header (it has: step, loss)"),
        ("step,d_anchor\n", "no rows below the header"),
        ("step,d_anchor\n0,0.5\n1,half\n", "row 1, column d_anchor: 'half' is not a number"),
        ("step,d_anchor\n0,0.5\nx,0.5\n", "row 1, column step: 'x' is not a number"),
        ("step,d_anchor\n0.5,0.5\n", "row 0, column step: '0.5' is not a whole number"),
        ("step,d_anchor\n0,0.5,7\n", "row 0 has 3 cells, the header has 2"),
        ("step,d_anchor\n5,0.5\n3,0.5\n", "row 1, column step: 3 comes after 5: sort the rows"),
        ("step,step,d_anchor\n1,1,1\n", "column step appears twice"),
        ("step,d_anchor,units\n0,0.5,many\n", "row 0, column units: 'many' is not a number"),
    ],
)
def test_a_bad_file_is_answered_in_one_line(tmp_path: Path, capsys, rows: str, answer: str) -> None:
    code, out, err = _run(capsys, "backtest", _csv(tmp_path, rows))
    assert (code, out) == (2, "")
    assert answer in err
    assert "history.csv" in err
    assert len(err.splitlines()) == 1


def test_bytes_that_are_no_text_and_files_that_are_not_there(tmp_path: Path, capsys) -> None:
    (tmp_path / "b.csv").write_bytes(b"step,d_anchor\n0,\xff\xfe\n")
    assert "cannot be read as CSV" in _run(capsys, "backtest", str(tmp_path / "b.csv"))[2]
    assert _run(capsys, "backtest", str(tmp_path / "gone.csv"))[0] == 2
    assert "give either a CSV file or --run ID" in _run(capsys, "backtest")[2]
    assert "choose one of fall, any, rise" in _run(capsys, "backtest", "x.csv", "--expect", "up")[2]


def test_a_stored_run_says_the_same_as_its_values_in_a_file(tmp_path: Path, capsys) -> None:
    store = tmp_path / "store"
    writer = StoreWriter(store)
    writer.save_run("r1", state="finished")
    writer.save_layers("r1", [("layer4", 2)])
    for i, value in enumerate(FLAT):
        report = LayerReport(plain_summary(round(float(value), 5), "layer4"), ARRAYS)
        writer.commit_snapshot(SnapshotReport("r1", i, 10 * i, 0.0, 0.0, {"layer4": report}))
    writer.close()
    stored = json.loads(_run(capsys, "backtest", "--run", "r1", "--store", str(store), "--json")[1])["alerts"]
    from_file = json.loads(_run(capsys, "backtest", _flat(tmp_path), "--json")[1])["alerts"]
    for alert in stored + from_file:
        alert["message"] = alert["message"].split(": ", 1)[1]
    assert stored == from_file
    assert "no such run" in _run(capsys, "backtest", "--run", "r2", "--store", str(store))[2]
    StoreReader(store).close()


def test_the_settings_in_force_are_shown_as_toml_and_json(tmp_path: Path, capsys) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[ConceptStall]\nprogress = 0.03\n[run."ft-*"]\nConceptJump.enabled = false\n')
    plain = json.loads(_run(capsys, "rules", "--rules", str(rules), "--json")[1])
    tuned = json.loads(_run(capsys, "rules", "--rules", str(rules), "--run", "ft-1", "--json")[1])
    assert plain["rules"]["ConceptStall"]["progress"] == 0.03
    assert ("ConceptJump" in plain["rules"], "ConceptJump" in tuned["rules"]) == (True, False)
    text = _run(capsys, "rules")[1]
    rules.write_text(text)
    assert json.loads(_run(capsys, "rules", "--rules", str(rules), "--json")[1]) == json.loads(
        _run(capsys, "rules", "--json")[1]
    ), "what is printed may be used as a file of rules"


def test_an_unknown_subcommand_is_named(capsys) -> None:
    assert "choose one of backtest, rules" in _run(capsys, "replay")[2]
