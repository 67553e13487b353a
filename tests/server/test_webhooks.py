"""Posting to real HTTP servers: well, down, slow, failing, redirecting, hanging, and where one must not post to."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import time
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from receivers import ALERT, Receiver, certificates, free_port, notice, receiving, status

import cm_server.notifiers
from cm_server.notices import Item
from cm_server.notifiers.addresses import is_public, is_reachable
from cm_server.notifiers.alertmanager import PATH, AlertmanagerChannel
from cm_server.notifiers.base import DeliveryError
from cm_server.notifiers.discord import DiscordChannel, discord_message
from cm_server.notifiers.http import Endpoint
from cm_server.notifiers.redaction import Secret
from cm_server.notifiers.slack import SlackChannel, slack_message
from cm_server.notifiers.webhook import SIGNATURE, WebhookChannel

SCHEMA = json.loads((Path(cm_server.notifiers.__file__).parent / "webhook.schema.json").read_text())
DASHBOARD = "http://127.0.0.1:8050"


def channel(url: str, **more) -> WebhookChannel:
    return WebhookChannel("webhook.test", Endpoint(Secret(url), allow_private=True, **more), DASHBOARD)


def refused(receiver: Receiver, seconds: float = 20.0) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        channel(receiver.url).send(notice(), seconds)
    assert "abcdefgh" not in str(caught.value), "the path is the secret"
    return caught.value


def test_the_body_is_what_the_schema_says_and_the_same_every_time() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    resolved = Item(replace(ALERT, id=8, state="ended", value=float("nan"), layer=""), "resolved", "error")
    with receiving() as receiver:
        one = replace(channel(receiver.url), key=Secret("signing-key"))
        assert one.send(notice(Item(ALERT, "firing", "warning"), resolved), 20).endswith("answered 200")
        one.send(notice(Item(ALERT, "firing", "warning"), resolved), 20)
    first, second = receiver.got
    jsonschema.validate(first.json, SCHEMA)
    assert first.body == second.body
    assert first.headers["Idempotency-Key"] == first.json["id"] == "k" * 32
    expected = hmac.new(b"signing-key", first.body, hashlib.sha256).hexdigest()
    assert first.headers[SIGNATURE] == f"sha256={expected}"
    told = first.json["alerts"]
    assert (first.json["status"], told[0]["status"], told[1]["state"]) == ("firing", "firing", "ended")
    assert (told[0]["details"], told[1]["value"]) == ({"slope": None, "n": [1, 2]}, None)
    assert told[0]["url"] == f"{DASHBOARD}/run/r1/overview?layer=layer4&step=1200"


def test_the_schema_refuses_what_is_not_one() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"version": "1", "id": "k" * 32, "alerts": []}, SCHEMA)


def test_a_link_leads_where_the_dashboard_reads_it() -> None:
    from urllib.parse import urlsplit

    from cm_server.notifiers.message import link
    from dashboard import view

    parts = urlsplit(link(DASHBOARD + "/", replace(ALERT, run="a/b c", layer="blocks[0].ß")))
    assert view.parse(parts.path, parts.query) == view.View("a/b c", "overview", "blocks[0].ß", 1200, None)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
def test_what_will_not_get_better_is_permanent(code: int) -> None:
    with receiving(status(code, b"no_service")) as receiver:
        error = refused(receiver)
    assert error.permanent
    assert f"answered {code}: no_service" in str(error)


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503])
def test_what_may_get_better_is_tried_again_when_the_receiver_says(code: int) -> None:
    with receiving(status(code, b"later", Retry_After="7")) as receiver:
        error = refused(receiver)
    assert not error.permanent
    assert error.retry_after == 7


def test_a_date_to_come_back_at_is_understood() -> None:
    from email.utils import formatdate

    with receiving(status(429, Retry_After=formatdate(time.time() + 100, usegmt=True))) as receiver:
        assert 90 < refused(receiver).retry_after <= 100


def test_a_redirect_is_not_followed() -> None:
    with receiving() as other, receiving(status(307, Location=other.url)) as receiver:
        error = refused(receiver)
    assert error.permanent
    assert other.got == []


def test_a_receiver_that_is_down_is_tried_again() -> None:
    with pytest.raises(DeliveryError) as caught:
        channel(f"http://127.0.0.1:{free_port()}/x").send(notice(), 20)
    assert not caught.value.permanent


@pytest.mark.parametrize("way", ["hang", "drip"])
def test_a_receiver_that_hangs_or_drips_is_left_in_time(way: str) -> None:
    with receiving() as receiver:
        receiver.answer = getattr(receiver, way)
        begun = time.monotonic()
        error = refused(receiver, seconds=0.5)
        assert not error.permanent
        assert "did not answer within 0.5 s" in str(error)
        assert time.monotonic() - begun < 15, "the receiver itself would stay for thirty"


def test_a_yes_counts_though_the_rest_hangs_and_a_no_shows_what_came() -> None:
    with receiving() as receiver:
        receiver.answer = receiver.hang_mid_body(200)
        assert channel(receiver.url).send(notice(), 20).endswith("answered 200")
        receiver.answer = receiver.hang_mid_body(500)
        assert "answered 500: the beginning" in str(refused(receiver, seconds=1))


def test_an_endless_answer_is_cut() -> None:
    with receiving(status(500, b"x" * 5_000_000)) as receiver:
        assert len(str(refused(receiver))) < 400


def test_an_answer_that_is_not_http_is_an_error_like_others() -> None:
    with receiving(lambda handler: handler.wfile.write(b"220 mail.example.com ESMTP\r\n")) as receiver:
        assert not refused(receiver).permanent


def test_tls_is_verified_for_the_name_and_a_private_authority_can_be_named(tmp_path: Path) -> None:
    authority, context = certificates(tmp_path, "hooks.example.com")
    there = {"resolve": lambda host, port: ["127.0.0.1"]}
    with receiving(tls=context) as receiver:
        url = f"https://hooks.example.com:{receiver.port}/services/x"
        assert channel(url, ca_file=str(authority), **there).send(notice(), 20).endswith("answered 200")
        with pytest.raises(DeliveryError, match="certificate verify failed"):
            channel(url, **there).send(notice(), 20)
        other = channel(f"https://other.example.com:{receiver.port}/x", ca_file=str(authority), **there)
        with pytest.raises(DeliveryError, match="certificate verify failed"):
            other.send(notice(), 20)
    assert receiver.got[0].headers["Host"].startswith("hooks.example.com")
    assert len(receiver.got) == 1


def test_a_name_that_resolves_to_a_private_address_is_refused_where_it_is_connected_to() -> None:
    """DNS rebinding: whatever the name said before, the connection goes to a checked address or nowhere."""
    answers = iter([["93.184.216.34"], ["127.0.0.1"], ["::ffff:127.0.0.1"], ["169.254.169.254"], ["10.1.2.3"]])
    next(answers)  # what an earlier check may have seen
    with receiving() as receiver:
        url = f"http://rebind.example.com:{receiver.port}/services/x"
        one = WebhookChannel("w", Endpoint(Secret(url), resolve=lambda host, port: next(answers)))
        for _ in range(4):
            with pytest.raises(DeliveryError, match="not on the open internet") as caught:
                one.send(notice(), 20)
            assert caught.value.permanent
    assert receiver.got == []


def test_which_addresses_are_public() -> None:
    private = (
        "127.0.0.1 127.9.9.9 0.0.0.0 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 224.0.0.1 "
        "255.255.255.255 ::1 :: fe80::1 fc00::1 ff02::1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 64:ff9b::7f00:1 "
        "2002:7f00:1::"
    )
    assert [a for a in private.split() if is_public(ipaddress.ip_address(a))] == []
    assert [a for a in ("1.1.1.1", "2606:4700::1111") if not is_public(ipaddress.ip_address(a))] == []
    assert is_reachable(ipaddress.ip_address("10.0.0.1"), allow_private=True)
    assert not is_reachable(ipaddress.ip_address("224.0.0.1"), allow_private=True)


def test_slack_gets_text_that_mentions_nobody() -> None:
    rude = replace(ALERT, message="<!channel> & <https://evil.example|click>" + "x" * 5000)
    with receiving() as receiver:
        endpoint = Endpoint(Secret(receiver.url), allow_private=True)
        SlackChannel("slack.t", endpoint, DASHBOARD).send(notice(Item(rude, "firing")), 20)
    sent = receiver.got[0].json
    sections = [block["text"]["text"] for block in sent["blocks"]]
    assert "&lt;!channel&gt; &amp; &lt;https" in sections[1]
    assert "<!" not in json.dumps(sent)
    assert all(len(text) <= 3000 for text in sections)
    assert sections[1].endswith("|open this step>"), "the link is not what is cut"
    many = slack_message(notice(*[Item(replace(ALERT, id=n), "firing") for n in range(60)]), "")
    assert len(many["blocks"]) <= 50
    assert "and 50 more" in json.dumps(many)


def test_discord_gets_embeds_within_its_limits() -> None:
    long = replace(ALERT, message="@everyone " + "x" * 5000, rule="R" * 300)
    with receiving(status(204, b"")) as receiver:
        endpoint = Endpoint(Secret(receiver.url), allow_private=True)
        items = [Item(replace(long, id=n), "firing") for n in range(12)]
        DiscordChannel("discord.t", endpoint, DASHBOARD).send(notice(*items), 20)
    sent = receiver.got[0].json
    assert sent["allowed_mentions"] == {"parse": []}
    assert len(sent["embeds"]) == 10
    assert sum(len(e["title"]) + len(e["description"]) for e in sent["embeds"]) <= 6000
    assert all(len(e["title"]) <= 256 for e in sent["embeds"])
    assert len(sent["content"]) <= 2000
    assert discord_message(notice(Item(ALERT, "resolved")), "")["embeds"][0]["description"] == ALERT.message


def test_alertmanager_gets_labels_and_an_end_for_the_severity_that_was() -> None:
    worse = Item(replace(ALERT, severity="error"), "firing", "warning")
    over = Item(replace(ALERT, state="resolved", severity="error"), "resolved", "error")
    with receiving() as receiver:
        endpoint = Endpoint(Secret(f"http://127.0.0.1:{receiver.port}{PATH}"), allow_private=True)
        one = AlertmanagerChannel("alertmanager.t", endpoint, DASHBOARD, 3600)
        one.send(notice(worse), 20)
        one.send(notice(over), 20)
    assert [request.path for request in receiver.got] == ["/api/v2/alerts"] * 2
    (ended, firing), (resolved,) = (request.json for request in receiver.got)
    assert firing["labels"] == {
        "alertname": "ConceptStall", "run": "r1", "layer": "layer4", "severity": "error", "source": "concept-monitor"
    }  # fmt: skip
    assert ended["labels"] == firing["labels"] | {"severity": "warning"}
    assert resolved["labels"] == firing["labels"]
    assert ended["endsAt"] == resolved["endsAt"] == "2026-09-21T14:15:00+00:00"
    assert firing["endsAt"] > resolved["endsAt"] > firing["startsAt"]
