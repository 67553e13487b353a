"""Precedence and error messages of every setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from cm_server.config import ConfigError, Option, parser_for, resolve

OPTIONS = (
    Option("store", str, "/default", "a folder"),
    Option("port", int, 8050, "a port", minimum=0),
    Option("keep", bool, False, "a switch"),
    Option("level", str, "info", "a choice", choices=("info", "debug")),
)


def _resolve(*flags: str, environ: dict[str, str] | None = None) -> dict:
    return resolve(OPTIONS, parser_for("x", "d", OPTIONS).parse_args(list(flags)), "demo", environ or {})


def test_flag_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('store = "/top"\nport = 1\n[demo]\nport = 2\nkeep = true\n[server]\nencoder = "x"\n')
    assert _resolve() == {"store": "/default", "port": 8050, "keep": False, "level": "info"}
    from_file = _resolve("--config", str(file))
    assert (from_file["store"], from_file["port"], from_file["keep"]) == ("/top", 2, True)
    environ = {"CM_CONFIG": str(file), "CM_PORT": "3", "CM_KEEP": "no"}
    assert _resolve(environ=environ)["port"] == 3
    assert _resolve(environ=environ)["keep"] is False
    from_flags = _resolve("--port", "4", "--keep", environ=environ)
    assert (from_flags["store"], from_flags["port"], from_flags["keep"]) == ("/top", 4, True)


@pytest.mark.parametrize(
    ("flags", "environ", "words"),
    [
        (("--port", "many"), {}, "--port is 'many': give a whole number"),
        (("--port", "-1"), {}, "--port is '-1': give 0 or more"),
        ((), {"CM_KEEP": "perhaps"}, "CM_KEEP is 'perhaps': give true or false"),
        (("--level", "loud"), {}, "choose one of info, debug"),
        (("--config", "/nowhere.toml"), {}, "no such file"),
    ],
)
def test_a_wrong_value_names_its_origin_and_the_cure(flags: tuple[str, ...], environ: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        _resolve(*flags, environ=environ)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[demo]\nprot = 1\n", "unknown key 'prot'"),
        ("prot = 1\n", "unknown key 'prot': did you mean 'port'"),
        ("[deno]\nport = 1\n", "unknown key 'deno': did you mean 'demo'"),
        ("port = [", "as TOML"),
        ("port = true", "port is True"),
    ],
)
def test_a_wrong_file_names_file_and_key(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        _resolve("--config", str(file))


def test_help_names_default_and_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser_for("x", "d", OPTIONS).parse_args(["--help"])
    shown = capsys.readouterr().out
    assert "CM_PORT" in shown
    assert "default 8050" in shown


NUMBERS = (Option("share", float, 0.5, "a number", minimum=0), Option("count", int, 1, "a whole number"), *OPTIONS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("demo = 3\n", r"c.toml: demo is 3: it is a table, so write \[demo\]"),
        ("[demo]\ncount = 3.7\n", "c.toml: count is 3.7: give a whole number"),
        ("[demo]\ncount = nan\n", "count is nan: give a whole number"),
        ("[demo]\nshare = nan\n", "share is nan: give a number"),
        ("[demo]\nshare = inf\n", "share is inf: give a number"),
        ("[demo]\nshare = -1\n", "share is -1: give 0 or more"),
        ("[demo]\nstore = 5\n", "store is 5: give a text"),
        ('[demo]\nstore = ["a"]\n', "give a text"),
        ("[demo.store]\nx = 1\n", "give a text"),
        ("[sever]\nport = 1\n", "unknown key 'sever': did you mean 'server'"),
        ("[dashbord]\nport = 1\n", "unknown key 'dashbord': did you mean 'dashboard'"),
        ("[demo]\nport = 1\nport = 2\n", "c.toml cannot be read as TOML"),
    ],
)
def test_a_slip_in_a_file_names_file_and_key(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text)
    flags = parser_for("x", "d", NUMBERS).parse_args(["--config", str(file)])
    with pytest.raises(ConfigError, match=words):
        resolve(NUMBERS, flags, "demo", {})


def test_whole_numbers_may_stand_where_a_number_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[demo]\nshare = 2\ncount = 3.0\n")
    found = resolve(NUMBERS, parser_for("x", "d", NUMBERS).parse_args(["--config", str(file)]), "demo", {})
    assert (found["share"], found["count"]) == (2.0, 3)
