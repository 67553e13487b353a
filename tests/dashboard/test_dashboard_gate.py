"""The door of a real dashboard process: what it lets in, what it refuses, and what it never says."""

import json
import re
import stat
import threading
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from store_factory import PROBE_FINGERPRINT
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from dashboard.data import Source
from dashboard.listening import outward
from dashboard.readiness import trouble

PAGE = {"Accept": "text/html"}


def ask(url, method="GET", path="/", body=None, **headers):
    """One request as it is, redirects not followed: status, headers, body."""
    place = re.sub(r"^http://", "", url)
    connection = HTTPConnection(place, timeout=20)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read()
    connection.close()
    return found


def listen(url, **more):
    return connect(url.replace("http", "ws", 1) + "/live", open_timeout=20, **more)


def refused(url, **more):
    with pytest.raises(InvalidStatus) as caught, listen(url, **more):
        pass
    return caught.value.response.status_code


def split(url):
    """The address and the token in it."""
    place, _, token = url.partition("/?token=")
    return place, token


class Output:
    """All that a process prints, read as it comes."""

    def __init__(self, process):
        self.lines = []
        self._thread = threading.Thread(target=lambda: self.lines.extend(process.stdout), daemon=True)
        self._thread.start()

    def all(self, process):
        process.terminate()
        process.wait(20)
        self._thread.join(20)
        return "".join(self.lines)


def test_on_loopback_no_token_is_asked_and_no_foreign_page_let_in(start, filled):
    url, _ = start(filled)
    place = url.removeprefix("http://")
    assert ask(url)[0] == 200
    with listen(url, origin=url) as socket:
        assert json.loads(socket.recv(20))["changes"] == [["*", "all"]]
    assert refused(url, origin="http://evil.example") == 403
    assert refused(url, origin="null") == 403
    assert refused(url) == 403, "a browser always says where it comes from"
    assert refused(url, origin=url, additional_headers={"Host": "evil.example"}) == 403, "no second name either"
    post = {"method": "POST", "path": "/_dash-update-component", "body": "{}"}
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"}):
        assert ask(url, **post, **headers)[0] == 403
    assert ask(url, **post, Origin=f"http://{place}")[0] != 403
    assert ask(url, Host="evil.example")[0] == 400
    assert ask(url, path="/healthz", Host="evil.example")[0] == 200, "a health check names whatever it likes"


def test_every_answer_has_the_headers(start, filled):
    url, _ = start(filled)
    paths = ["/", "/run/r1/map", "/pulse", f"/probe/{PROBE_FINGERPRINT}/1.png", "/nowhere.js", "/healthz", "/readyz"]
    for path in [*paths, "/_dash-layout", "/_dash-dependencies"]:
        _, headers, _ = ask(url, path=path)
        policy = headers["Content-Security-Policy"]
        assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0], path
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "uvicorn" not in (headers["Server"] or "")
    page = re.sub("<!--.*?-->", "", ask(url)[2].decode(), flags=re.DOTALL)
    inline = [s for s in re.findall(r"<script([^>]*)>", page) if "src=" not in s and "application/json" not in s]
    assert len(inline) == 1, "Dash's own start, whose hash the policy names"


def test_beyond_loopback_nothing_is_shown_without_the_token(start, filled):
    printed, process = start(filled, "--host", "0.0.0.0")
    output = Output(process)
    url, token = split(printed)
    assert urlsplit(url).hostname == outward(), "an address that others can open"
    assert len(token) >= 43
    paths = ["/", "/run/r1/overview", "/pulse", f"/probe/{PROBE_FINGERPRINT}/1.png", "/assets/live.js", "/_dash-layout"]
    for path in [*paths, "/_dash-dependencies", "/?token=wrong", "/?token=", "/?" + "&".join("a" * 100)]:
        status, headers, body = ask(url, path=path)
        assert status == 401, path
        assert headers["WWW-Authenticate"] == "Bearer"
        assert b"r1" not in body
    assert ask(url, "POST", "/_dash-update-component", "{}")[0] == 401
    assert refused(url, origin=url) == 403
    status, headers, body = ask(url, **PAGE)
    assert (status, headers["Cache-Control"]) == (401, "no-store")
    assert b"open the address that it printed" in body
    assert "script" not in headers["Content-Security-Policy"]
    assert [ask(url, path=path)[0] for path in ("/healthz", "/readyz")] == [200, 200]
    said = output.all(process)
    assert said.count(token) == 1, "once, in the address, and never again"
    assert process.returncode == 0


def test_the_token_becomes_a_cookie_and_leaves_the_address(start, filled):
    printed, process = start(filled, "--host", "0.0.0.0")
    output = Output(process)
    url, token = split(printed)
    status, headers, _ = ask(url, path=f"/run/r1/map?layer=layer2&token={token}&unit=3", **PAGE)
    assert (status, headers["Location"]) == (303, "/run/r1/map?layer=layer2&unit=3")
    cookie, *flags = [part.strip() for part in headers["Set-Cookie"].split(";")]
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(flags)
    assert "Secure" not in flags
    assert token not in headers["Set-Cookie"]
    for path in ("/", "/pulse", "/_dash-layout", f"/probe/{PROBE_FINGERPRINT}/1.png"):
        assert ask(url, path=path, Cookie=cookie)[0] == 200
    assert ask(url, path="/pulse", Cookie=f'odd="{{unclosed; {cookie}; other=1')[0] == 200
    assert ask(url, path="/pulse", Cookie=cookie[:-1])[0] == 401
    assert ask(url, path="/pulse", Authorization=f"Bearer {token}")[0] == 200
    assert ask(url, path=f"//evil.example/?token={token}")[1]["Location"].startswith("/evil.example/")
    with listen(url, origin=url, additional_headers={"Cookie": cookie}) as socket:
        assert json.loads(socket.recv(20))["cursor"] >= 0
    assert refused(url, origin="http://evil.example", additional_headers={"Cookie": cookie}) == 403
    said = output.all(process)
    assert said.count(token) == 1
    assert cookie.partition("=")[2] not in said


def test_a_kept_token_is_never_printed_and_outlives_the_process(start, filled, tmp_path):
    kept = tmp_path / "token"
    url, first = start(filled, "--token-file", str(kept), "--log-format", "json", "--log-level", "debug")
    output = Output(first)
    assert stat.S_IMODE((tmp_path / "ready0.json").stat().st_mode) == 0o600
    token = kept.read_text().strip()
    assert ask(url, path="/pulse")[0] == 401, "on loopback too, once a token is named"
    cookie = ask(url, path=f"/?token={token}")[1]["Set-Cookie"].partition(";")[0]
    proxied = {"X_Forwarded_Proto": "https", "X_Forwarded_For": "10.1.2.3"}
    assert "Secure" in ask(url, path=f"/?token={token}", **proxied)[1]["Set-Cookie"], "never in the clear behind TLS"
    said = output.all(first)
    assert token not in said
    assert cookie.partition("=")[2] not in said
    assert "/?token=<what is in " in said
    url, _ = start(filled, "--token-file", str(kept), "--public-url", "https://monitor.example.com")
    assert url == "https://monitor.example.com"


def test_ready_means_that_the_store_can_be_shown(tmp_path, filled):
    missing, there = Source(tmp_path / "later", lambda run: 0), Source(filled, lambda run: 0)
    assert trouble(missing) == "there is no store yet"
    assert trouble(there) == ""
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "index.sqlite").write_text("no database at all, but long enough to be looked at " * 40)
    assert trouble(Source(tmp_path / "odd", lambda run: 0)) == "the store cannot be read: see the log"
