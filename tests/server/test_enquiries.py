"""The words, from the server's encoder to a training script: one question, cached by fingerprint."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from cm_client.enquiry import ask_vocabulary
from cm_client.errors import ClientError
from cm_client.protocol import decode, encode
from cm_client.protocol import messages as m
from cm_client.vocabulary import cache_folder, text_embeddings
from cm_server.commands.processes import start_server
from cm_server.concepts import ConceptSet, load_concepts
from cm_server.encoders.planted import PlantedEncoder
from cm_server.enquiries import vocabulary_answer
from cm_server.index import VectorIndex
from cm_server.report import ConceptMap
from cm_server.vocabulary import Vocabulary


def _vocabulary(words: tuple[str, ...]) -> Vocabulary:
    concepts = ConceptSet("test", words, (None,) * len(words))
    text = PlantedEncoder().encode_text(words)
    nowhere = np.zeros((len(words), 2), np.float32)
    layout = ConceptMap(words, ("",) * len(words), nowhere, np.arange(len(words)), (0, 0, 0, 0), "pca")
    return Vocabulary(concepts, text, layout.anchors, VectorIndex(text, "cosine"), layout, "ab" * 32, "")


@given(st.lists(st.text(min_size=1, max_size=900).filter(str.strip), min_size=1, max_size=60))
@settings(deadline=None, max_examples=25)
def test_any_words_fit_the_wire_and_come_in_order(words: list[str]) -> None:
    vocabulary = _vocabulary(tuple(words))
    sent = [decode(encode(x, "", "e", 0)).message for x in vocabulary_answer(vocabulary, PlantedEncoder(), [])]
    assert sent[0].count == len(words)
    assert [word for chunk in sent[1:] for word in chunk.words] == words
    assert np.array_equal(np.concatenate([chunk.vectors for chunk in sent[1:]]), vocabulary.text.numpy())
    assert [chunk.start for chunk in sent[1:]] == list(np.cumsum([0, *(len(c.words) for c in sent[1:-1])]))


def test_what_is_known_is_not_sent_and_what_is_not_there_is_said() -> None:
    (start,) = vocabulary_answer(_vocabulary(("red",)), PlantedEncoder(), ["x", "ab" * 32])
    assert start.count == 1
    (answer,) = vocabulary_answer(None, PlantedEncoder(), [])
    assert answer == m.NotReady("the server is laying out its words")


def test_a_real_server_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    options = {"listen": "tcp://127.0.0.1:0", "events": "tcp://127.0.0.1:0", "encoder": "planted", "projection": "pca"}
    child, addresses = start_server(tmp_path / "store", tmp_path / "logs", options)
    try:
        found = text_embeddings(server=addresses["ingest"])
        kept = cache_folder() / f"{found.fingerprint}.npz"
        assert kept.exists()
        answer = ask_vocabulary(addresses["ingest"], [found.fingerprint], 30)
        assert answer.vectors is None, "what is known is not sent again"
        again = text_embeddings(server=addresses["ingest"])
        kept.write_bytes(b"torn")
        third = text_embeddings(server=addresses["ingest"])
    finally:
        child.stop()
    words = load_concepts().words
    assert found.words == again.words == third.words == words
    assert torch.equal(found.vectors, PlantedEncoder().encode_text(words))
    assert torch.equal(again.vectors, found.vectors)
    assert (found.encoder, found.encoder_fingerprint) == ("planted", PlantedEncoder().fingerprint)
    assert torch.equal(found.select(["red", "dog"]).vectors, PlantedEncoder().encode_text(["red", "dog"]))
    assert text_embeddings(path=kept).words == words, "mended by the third"


class Router:
    """A real socket that answers each question with the next of the scripted answers, once it was asked."""

    def __init__(self, *answers: list[m.NotReady | m.Refuse | m.VocabularyStart | m.VocabularyChunk]) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.address = f"tcp://127.0.0.1:{self.socket.bind_to_random_port('tcp://127.0.0.1')}"
        self.asked: list[m.VocabularyRequest] = []
        self._thread = threading.Thread(target=self._work, args=(answers,), daemon=True)
        self._thread.start()

    def _work(self, answers: tuple) -> None:
        for answer in answers:
            identity, *frames = self.socket.recv_multipart()
            self.asked.append(decode(frames).message)
            for message in answer:
                self.socket.send_multipart([identity, *encode(message, "", "e", 0)])
        self.socket.close(1000)
        self.context.term()


@pytest.fixture
def ready() -> list:
    return list(vocabulary_answer(_vocabulary(("red", "dog")), PlantedEncoder(), []))


def test_a_server_that_is_not_ready_is_asked_again(ready: list) -> None:
    router = Router([m.NotReady("busy")], ready)
    answer = ask_vocabulary(router.address, [], 30)
    assert answer.words == ("red", "dog")
    assert len(router.asked) == 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ([m.NotReady("laying out")], "in time: laying out"),
        ([m.Refuse("unknown message type 'VocabularyRequest'")], "unknown message type"),
        ([m.VocabularyStart("../x", "e", "f", 1, 4)], "not a vocabulary"),
        ([m.VocabularyStart("ab", "e", "f", 2**40, 4)], "not a vocabulary"),
        (
            [m.VocabularyStart("ab", "e", "f", 1, 4), m.VocabularyChunk("ab", 1, ["x"], np.ones((1, 4), "f4"))],
            "do not fit",
        ),
        (
            [m.VocabularyStart("ab", "e", "f", 1, 4), m.VocabularyChunk("ab", 0, ["x"], np.ones((1, 3), "f4"))],
            "do not fit",
        ),
    ],
)
def test_a_server_that_cannot_answer_is_named(answer: list, said: str) -> None:
    router = Router(answer)
    with pytest.raises(ClientError, match=said):
        ask_vocabulary(router.address, [], 0.8)


@pytest.fixture
def closed_port() -> Iterator[str]:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def test_no_server_and_wrong_files_are_named(tmp_path: Path, closed_port: str) -> None:
    with pytest.raises(ClientError, match="start one with `concept-monitor up`"):
        text_embeddings(server=closed_port, timeout=0.1)
    with pytest.raises(ClientError, match="give an address like"):
        text_embeddings(server="nonsense", timeout=0.1)
    with pytest.raises(ClientError, match="give one of them"):
        text_embeddings(server=closed_port, path=tmp_path)
    with pytest.raises(ClientError, match=r"words\.npz cannot be read"):
        text_embeddings(path=tmp_path)
    np.savez(
        tmp_path / "odd.npz",
        words=np.array(["a"]),
        vectors=np.ones(3),
        encoder="",
        encoder_fingerprint="",
        fingerprint="",
    )
    with pytest.raises(ClientError, match="holds"):
        text_embeddings(path=tmp_path / "odd.npz")
