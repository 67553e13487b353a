"""A download of weights that breaks in the middle: said in words, nothing half is loaded, `auto` goes on without it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cm_server.encoders import EncoderError, make_encoder
from cm_server.encoders.pretrained import cached_weights, download_weights

WHOLE = 1_000_000


class _Breaking(BaseHTTPRequestHandler):
    """A hub that promises a file and hangs up half-way."""

    def do_HEAD(self) -> None:
        self._head()

    def do_GET(self) -> None:
        self._head()
        self.wfile.write(b"\0" * (WHOLE // 2))
        self.close_connection = True

    def _head(self) -> None:
        self.send_response(200)
        for name, value in (("ETag", '"abc"'), ("X-Repo-Commit", "a" * 40), ("Content-Length", str(WHOLE))):
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the error stream."""


@pytest.fixture
def breaking_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), _Breaking)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield address
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_download_that_breaks_is_said_and_leaves_nothing_to_be_taken_for_whole(breaking_hub: str) -> None:
    config = {"hf_hub": "me/tiny/open_clip_model.safetensors"}
    with pytest.raises(EncoderError, match=r"download of tiny from http://127.0.0.1.* failed .*--encoder conse"):
        download_weights(config, "tiny")
    assert cached_weights(config) is None


def test_auto_goes_on_without_what_cannot_be_fetched(breaking_hub: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="cm_server.encoders"):
        assert make_encoder("auto", device="cpu").name == "conse"
    assert "conse, because download of open_clip:ViT-B-32" in caplog.text
