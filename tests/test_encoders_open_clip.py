"""The open_clip encoder on a tiny real model: loading, agreement with open_clip, and how weights can be absent."""

from __future__ import annotations

import json
import logging
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from cm_server.encoders import EncoderError, check_encoder, make_encoder
from cm_server.encoders.choose import DEFAULT_OPEN_CLIP
from cm_server.encoders.open_clip_encoder import OpenClipEncoder
from cm_server.encoders.planted import PLANTED_WORDS, planted_images
from cm_server.encoders.pretrained import cached_weights, host_answers

TINY = "cm-test-tiny"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Register a tiny architecture; save one random model as .pt and as .safetensors."""
    import open_clip
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("open_clip")
    vision = {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 8}
    text = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    config = folder / f"{TINY}.json"
    config.write_text(json.dumps({"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(config)
    torch.manual_seed(0)
    state = open_clip.create_model(TINY).state_dict()
    files = {"pt": folder / "tiny.pt", "safetensors": folder / "tiny.safetensors", "short": folder / "short.pt"}
    torch.save(state, files["pt"])
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, files["safetensors"])
    torch.save({name: tensor for name, tensor in state.items() if "visual" not in name}, files["short"])
    return files


def test_open_clip_keeps_the_contract(tiny: dict[str, Path]) -> None:
    encoder = make_encoder(f"open_clip:{TINY}/{tiny['pt']}", device="cpu")
    check_encoder(encoder)
    assert (encoder.name, encoder.dim) == (f"open_clip:{TINY}/{tiny['pt']}", 24)


def test_open_clip_gives_the_same_for_both_file_formats(tiny: dict[str, Path]) -> None:
    first, second = (OpenClipEncoder(TINY, str(tiny[kind]), device="cpu") for kind in ("pt", "safetensors"))
    images, _ = planted_images(PLANTED_WORDS[:3], 2)
    assert first.fingerprint == second.fingerprint
    assert torch.equal(first.encode_text(["dog", "cat"]), second.encode_text(["dog", "cat"]))
    assert torch.equal(first.encode_images(images), second.encode_images(images))


def test_open_clip_agrees_with_open_clip_itself(tiny: dict[str, Path]) -> None:
    import open_clip
    from PIL import Image

    encoder = OpenClipEncoder(TINY, str(tiny["pt"]), device="cpu")
    parts: Any = open_clip.create_model_and_transforms(TINY, pretrained=str(tiny["pt"]))
    model, _, transform = parts
    images, _ = planted_images(["dog", "red"], 1, size=50)
    model.eval()
    with torch.no_grad():
        pixels = torch.stack([transform(Image.fromarray(image)) for image in images])
        expected = model.encode_image(pixels, normalize=True)
        words = model.encode_text(open_clip.get_tokenizer(TINY)(["traffic light"]), normalize=True)
    assert torch.allclose(encoder.encode_images(images), expected, atol=1e-6)
    assert torch.allclose(encoder.encode_text(["traffic light"]), words, atol=1e-6)


def test_open_clip_refuses_what_it_cannot_load_in_one_line(tiny: dict[str, Path], tmp_path: Path) -> None:
    class Planted:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    poisoned = tmp_path / "poisoned.pt"
    torch.save({"state_dict": Planted()}, poisoned)
    cases = {
        f"open_clip:{TINY}/{tiny['short']}": "does not load",
        f"open_clip:{TINY}/{poisoned}": "does not load",
        f"open_clip:{TINY}/{tmp_path / 'absent.pt'}": "does not exist",
        f"open_clip:{TINY}/": "lacks a model or weights",
        "open_clip:ViT-B-33/openai": "did you mean ViT-B-32",
        "open_clip:ViT-B-32/laion9": "use one of openai",
    }
    for spec, words in cases.items():
        with pytest.raises(EncoderError, match=words) as caught:
            make_encoder(spec, device="cpu")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Point the hub's client to an empty cache and to a port where nobody listens."""
    from huggingface_hub import constants

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.mark.usefixtures("no_hub")
def test_a_tag_without_network_fails_fast_and_says_what_to_do() -> None:
    start = time.monotonic()
    with pytest.raises(
        EncoderError, match=r"not cached and http://127.0.0.1.* does not answer within 3 s.*--encoder conse"
    ):
        make_encoder(DEFAULT_OPEN_CLIP)
    assert time.monotonic() - start < 10


@pytest.mark.usefixtures("no_hub")
def test_the_hub_switched_off_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError, match="HF_HUB_OFFLINE forbids"):
        make_encoder(DEFAULT_OPEN_CLIP)


@pytest.mark.usefixtures("no_hub")
def test_a_tokenizer_that_must_be_fetched_fails_fast() -> None:
    with pytest.raises(EncoderError, match=r"tokenizer timm/ViT-B-16-SigLIP .* not cached"):
        make_encoder("open_clip:ViT-B-16-SigLIP/webli")


@pytest.mark.usefixtures("no_hub")
def test_auto_takes_conse_without_network_and_logs_why(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="cm_server.encoders"):
        encoder = make_encoder("auto", device="cpu")
    assert encoder.name == "conse"
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "conse, because encoder open_clip:ViT-B-32" in caplog.text


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("entry", ["me/tiny/", "me/tiny/open_clip_pytorch_model.bin"])
def test_cached_weights_are_found_in_the_hub_cache(tmp_path: Path, entry: str) -> None:
    assert cached_weights({"hf_hub": entry}) is None
    home = tmp_path / "models--me--tiny"
    snapshot = home / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("a" * 40)
    (snapshot / "open_clip_pytorch_model.bin").write_bytes(b"1")
    assert cached_weights({"hf_hub": entry}) == snapshot / "open_clip_pytorch_model.bin"


def test_a_host_answers_or_the_limit_holds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert host_answers("127.0.0.1", port, seconds=3)
    assert not host_answers("127.0.0.1", port, seconds=3)
    start = time.monotonic()
    assert not host_answers("192.0.2.1", 9, seconds=0.3)  # TEST-NET-1: nobody is there.
    assert time.monotonic() - start < 2
