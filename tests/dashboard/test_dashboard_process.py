"""The dashboard as a process: how it starts, what it refuses, what it serves, and what it must never load."""

import io
import json
import subprocess
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest
from harness import ROOT, environment
from PIL import Image
from store_factory import PROBE_FINGERPRINT, Factory

from cm_server.stores.reader import StoreReader
from dashboard import images


def run(*arguments, cwd=ROOT):
    command = [sys.executable, "-m", "dashboard", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=60)


def get(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def test_the_dashboard_never_loads_torch():
    heavy = ["torch", "torchvision", "faiss", "umap", "open_clip", "numba", "sklearn"]
    program = f"import sys, dashboard.cli, dashboard.app; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_no_store_is_one_line_with_the_cure(tmp_path):
    done = run("--store", str(tmp_path / "none"), "--port", "0")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "no store at" in done.stderr
    assert "--store" in done.stderr


def test_a_port_in_use_is_one_line_with_the_cure(start, filled):
    url, _ = start(filled)
    port = url.rsplit(":", 1)[1]
    done = run("--store", str(filled), "--port", port)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"port {port}" in done.stderr
    assert "--port 0" in done.stderr


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--port", "x"), "'x'"),
        (("--port", "70000"), "70000"),
        (("--host", "nowhere.invalid", "--port", "0"), "nowhere.invalid"),
    ],
)
def test_wrong_settings_name_the_value(filled, flags, named):
    done = run("--store", str(filled), *flags)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert named in done.stderr


def test_help_names_every_setting():
    shown = run("--help").stdout
    assert all(flag in shown for flag in ("--store", "--port", "--events", "--wait", "--ready-file", "CM_PORT"))


def test_it_says_where_it_listens_and_waits_for_a_store(start, tmp_path):
    url, process = start(tmp_path / "later", "--wait")
    assert process.stdout.readline() == f"dashboard: {url}/\n"
    assert get(url + "/")[0] == 200
    factory = Factory(tmp_path / "later", (("layer1", 8),), words=60)
    factory.begin("r1")
    factory.close()
    assert get(url + "/pulse")[0] == 200


def test_a_deep_link_as_first_request_has_all_scripts_and_no_other_origin(start, filled):
    url, _ = start(filled)
    status, headers, body = get(url + "/run/r1/map?unit=3")
    assert status == 200
    page = body.decode()
    assert "live.js" in page
    assert "page.js" in page
    assert "style.css" in page
    assert "https://" not in page.replace("https://dash", "")
    assert 'src="http' not in page
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_foreign_host_is_refused(start, filled):
    url, _ = start(filled)
    assert get(url + "/", Host="evil.example")[0] == 400


def test_probe_images_are_encoded_anew_and_addresses_checked(start, filled):
    url, _ = start(filled)
    status, headers, body = get(f"{url}/probe/{PROBE_FINGERPRINT}/7.png")
    assert status == 200
    assert headers["Content-Type"] == "image/png"
    assert "immutable" in headers["Cache-Control"]
    shown = np.asarray(Image.open(io.BytesIO(body)))
    stored = StoreReader(filled).probe_image(PROBE_FINGERPRINT, 7)
    factor = shown.shape[0] // stored.shape[0]
    assert factor * stored.shape[0] >= images.SMALLEST
    assert (shown[::factor, ::factor] == stored).all()
    for path, expected in {
        f"{PROBE_FINGERPRINT}/999999.png": 404,
        "unknown/0.png": 404,
        f"{PROBE_FINGERPRINT}/7.jpg": 400,
        f"{PROBE_FINGERPRINT}/-1.png": 400,
        f"{PROBE_FINGERPRINT}/x.png": 400,
        f"{PROBE_FINGERPRINT}/²7.png".replace("²", "%C2%B2"): 400,
        "a" * 200 + "/0.png": 400,
    }.items():
        assert get(f"{url}/probe/{path}")[0] == expected, path
    assert get(f"{url}/probe/..%2Fmaps/0.png")[1]["Content-Type"].startswith("text/html"), "no file, only the page"


def test_a_pulse_over_http_for_where_websockets_cannot_pass(start, filled):
    url, _ = start(filled)
    first = json.loads(get(url + "/pulse")[2])
    assert first["changes"] == [["*", "all"]]
    assert first["silence"] is None
    again = json.loads(get(f"{url}/pulse?feed_id={first['feed']}&cursor={first['cursor']}")[2])
    assert again["changes"] == []
