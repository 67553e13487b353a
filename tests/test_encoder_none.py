"""The encoder without weights: words told apart, images refused in words, and who may use it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cm_server.commands import server
from cm_server.config import parser_for, resolve
from cm_server.encoders import EncoderError, choose, make_encoder, make_text_encoder


def _settings(*flags: str):
    values = resolve(
        server.OPTIONS, parser_for("x", "", server.OPTIONS).parse_args([*flags, "--device", "cpu"]), "server"
    )
    return server._worker_settings(values, ())


def test_every_word_has_a_direction_of_its_own() -> None:
    words = [f"word {i}" for i in range(300)]
    found = make_encoder("none").encode_text(words)
    assert torch.allclose(found.norm(dim=1), torch.ones(300))
    assert float((found @ found.T - torch.eye(300)).abs().max()) < 0.4
    assert torch.equal(make_encoder("none").encode_text(["Word 7 "])[0], found[7])
    assert len(make_encoder("none").encode_text([])) == 0
    with pytest.raises(EncoderError, match="cannot embed images"):
        make_encoder("none").encode_images(np.zeros((1, 4, 4, 3), np.uint8))


def test_who_only_needs_words_gets_them_where_there_is_no_encoder(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    def nothing(device: str | None):
        raise EncoderError("nothing is installed")

    monkeypatch.setattr(choose, "_auto", nothing)
    assert make_text_encoder("auto").name == "none"
    assert "nothing is installed" in caplog.text
    assert _settings("--detector", "invert").encoder.name == "none"
    with pytest.raises(EncoderError, match="nothing is installed"):
        _settings("--detector", "cos_cubed")
    with pytest.raises(EncoderError, match="unknown encoder 'clap'"):
        make_text_encoder("clap")


def test_who_needs_meaning_is_refused(tmp_path) -> None:
    (tmp_path / "c.csv").write_text("a,0,x\n")
    with pytest.raises(EncoderError, match="detector cos_cubed needs it"):
        _settings("--encoder", "none")
    with pytest.raises(EncoderError, match="detector milan needs it"):
        _settings("--encoder", "none", "--detector", "milan", "--captions", str(tmp_path / "c.csv"))
