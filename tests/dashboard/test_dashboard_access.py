"""Who may see the dashboard, as pure questions: names, origins, token, cookie, token file, addresses."""

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cm_server.config import ConfigError
from cm_server.notifiers.redaction import Secret
from dashboard.access import access_for, needs_token, without_token
from dashboard.gate import content_policy
from dashboard.listening import checked_url
from dashboard.tokens import kept_token, new_token

TOKEN = Secret("a-token-of-some-length-0123456789")


@pytest.mark.parametrize(
    ("host", "public", "known", "unknown"),
    [
        (
            "127.0.0.1",
            "",
            ["localhost:8050", "127.0.0.1", "[::1]:9"],
            ["evil.example", "10.0.0.7", "", "a@localhost", "localhost.evil.example", "localhost:x", "127.0.0.1/x"],
        ),
        ("0.0.0.0", "", ["10.0.0.7:8050", "[fe80::1]:8050", "localhost"], ["evil.example", "10.0.0.7.evil.example"]),
        ("monitor.lab", "", ["MONITOR.lab:8050"], ["evil.example"]),
        ("127.0.0.1", "https://monitor.example.com", ["monitor.example.com", "localhost"], ["example.com"]),
    ],
)
def test_a_dashboard_answers_to_its_own_names_only(host, public, known, unknown):
    access = access_for(host, public_url=public)
    assert [name for name in known if not access.knows_host(name)] == []
    assert [name for name in unknown if access.knows_host(name)] == []


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        ("http://localhost:8050", "localhost:8050", True),
        ("http://LOCALHOST:8050", "localhost:8050", True),
        ("https://monitor.example.com", "monitor.example.com", True),
        ("https://monitor.example.com:443", "monitor.example.com", True),
        ("https://monitor.example.com", "127.0.0.1:8050", True),  # a proxy that does not pass the name on
        ("http://localhost:8051", "localhost:8050", False),
        ("http://evil.example", "localhost:8050", False),
        ("http://localhost:8050.evil.example", "localhost:8050", False),
        ("http://localhost:8050@evil.example", "localhost:8050", False),
        ("null", "localhost:8050", False),
        ("", "", False),
        ("file://", "localhost:8050", False),
        ("chrome-extension://localhost:8050", "localhost:8050", False),
    ],
)
def test_only_its_own_page_is_an_origin(origin, host, own):
    access = access_for("127.0.0.1", public_url="https://monitor.example.com")
    assert access.knows_origin(origin, host) is own


def test_the_token_or_its_cookie_lets_in_and_nothing_else():
    access, other = access_for("0.0.0.0", TOKEN), access_for("0.0.0.0", Secret("another-token-0123456789"))
    assert access.admits(TOKEN.reveal())
    assert access.admits(cookies={access.cookie_name: access.cookie_value})
    for token, cookies in (
        ("", {}),
        ("wrong", {}),
        (TOKEN.reveal()[:-1], {}),
        ("ä", {}),
        (access.cookie_value, {}),
        ("", {access.cookie_name: TOKEN.reveal()}),
        ("", {access.cookie_name: ""}),
        ("", {other.cookie_name: other.cookie_value}),
        ("", {access.cookie_name: other.cookie_value}),
    ):
        assert not access.admits(token, cookies), (token, cookies)
    assert access_for("127.0.0.1").admits(), "where none is asked for, everybody on this machine is let in"
    assert access_for("127.0.0.1", TOKEN).cookie_value == access.cookie_value, "a restart logs nobody out"
    assert TOKEN.reveal() not in repr(access) + access.cookie_name + access.cookie_value


def test_a_token_is_needed_wherever_others_can_come():
    assert not needs_token("127.0.0.1")
    assert not needs_token("localhost", "http://localhost:9000")
    assert needs_token("0.0.0.0")
    assert needs_token("::")
    assert needs_token("monitor.lab")
    assert needs_token("127.0.0.1", "https://monitor.example.com"), "a proxy brings others to loopback"


@given(st.text(alphabet="/\\ab.%:@?#&=\r\n é", max_size=12), st.text(alphabet="token=&abc%/?+é", max_size=30))
def test_the_way_on_without_the_token_stays_here(path, query):
    _, target = without_token("/" + path, query)
    assert target.startswith("/")
    assert not target.startswith(("//", "/\\"))
    names = [part.partition("=")[0] for part in target.partition("?")[2].split("&")]
    assert "token" not in names


@given(st.text(alphabet="abc-_~", min_size=1, max_size=40), st.lists(st.sampled_from(["layer=fc", "unit=3", "step="])))
def test_only_the_token_is_taken_from_the_address(token, others):
    found, target = without_token("/run/r/map", "&".join([*others, f"token={token}"]))
    assert found == token
    assert target == "/run/r/map" + ("?" + "&".join(others) if others else "")


def test_a_token_file_is_made_once_for_its_owner_and_read_again(tmp_path):
    path = tmp_path / "new" / "token"
    token = kept_token(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert kept_token(path).reveal() == token.reveal()
    assert len(token.reveal()) >= 43
    assert new_token().reveal() != new_token().reveal()


@pytest.mark.parametrize("content", ["short", "with spaces in it, and long", "x" * 30 + "/", "", "é" * 30])
def test_a_file_without_a_token_is_refused_without_showing_it(tmp_path, content):
    path = tmp_path / "token"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        kept_token(path)
    assert str(path) in str(caught.value)
    assert not content or content not in str(caught.value)


def test_a_token_file_that_cannot_be_made_names_the_cure(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="give a file that you may read"):
        kept_token(tmp_path / "file" / "token")


@pytest.mark.parametrize(
    "url",
    ["monitor.example.com", "ftp://x", "https://", "https://x/path", "https://x?y", "https://u:p@x", "http://x:y"],
)
def test_a_public_address_is_scheme_and_host(url):
    with pytest.raises(ConfigError, match="--public-url is"):
        checked_url(url)
    assert checked_url("https://monitor.example.com/") == "https://monitor.example.com/"


def test_the_policy_allows_no_inline_script_and_no_other_place():
    parts = dict(part.strip().split(" ", 1) for part in content_policy(["'sha256-x'"]).split(";"))
    assert parts["script-src"] == "'self' 'unsafe-eval' 'sha256-x'"
    assert not [part for part in parts.values() if "http" in part or "*" in part or "//" in part]
    assert parts["default-src"] == "'self'"
    assert parts["frame-ancestors"] == parts["base-uri"] == parts["object-src"] == parts["form-action"] == "'none'"
