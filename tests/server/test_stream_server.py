"""Stream captures and requests on the server, over a real store; only socket and client are left out."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from test_ingest import HELLO, Desk
from test_ingest import desk as desk  # the fixture

from cm_client.protocol.messages import (
    Answer,
    CaptureAck,
    CaptureChunk,
    CaptureStart,
    Heartbeat,
    Hello,
    ImagesWanted,
    Pong,
    Refuse,
    Request,
    SampleImages,
    SampleKeys,
    Unknown,
    Welcome,
)
from cm_server.cache import ArrayCache
from cm_server.encoders.planted import PlantedEncoder
from cm_server.stores.errors import StoreError
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter
from cm_server.stream_analysis import ImageEmbeddings

N = 40
KEYS = np.stack([np.frombuffer(hashlib.sha256(bytes([i])).digest(), np.uint8) for i in range(N)])
MARK = hashlib.sha256(KEYS.tobytes()).hexdigest()
IMAGES = np.stack([np.full((4, 4, 3), i, np.uint8) for i in range(N)])
STREAM = Hello("a run", "Net", -1, 0.0, "1", "host", 1, sample="stream")


def start(number: int, count: int = N, kind: str = "stream") -> CaptureStart:
    return CaptureStart(number, 9, 0.0, MARK, count, [["layer", 2]], kind, 3)


def test_a_stream_capture_is_whole_with_its_rows_and_images_and_these_are_asked_for_once(desk: Desk) -> None:
    assert desk.say(STREAM) == [Welcome]
    assert desk.sent[0].samples == "probe stream"
    assert desk.reader.run("r").sample == "stream"
    session = desk.ingest.sessions["r"]
    desk.say(start(0))
    assert desk.reader.run("r").probes == N
    desk.say(CaptureChunk(0, 0, 0, np.zeros((N, 2), np.float32)))
    assert session.pending == set(), "the rows alone are no capture"
    assert desk.say(SampleKeys(0, 0, KEYS)) == [ImagesWanted]
    assert desk.sent[0].rows == list(range(N))
    assert desk.say(SampleImages(0, list(range(N)), IMAGES)) == []
    assert session.pending == {0}
    assert (session.samples, session.whole) == ({}, {})
    np.testing.assert_array_equal(desk.reader.probe_image(MARK, 7), IMAGES[7])
    # Another capture on the same images asks for none; one that is sent again begins anew.
    for _ in range(2):
        desk.say(start(1))
        assert desk.say(SampleKeys(1, 0, KEYS)) == []
    desk.say(CaptureChunk(1, 0, 0, np.zeros((N, 2), np.float32)))
    assert session.pending == {0, 1}


def test_a_question_that_was_lost_is_asked_again_once_nothing_comes_any_more(desk: Desk) -> None:
    waiting = Heartbeat({}, [0])
    desk.say(STREAM)
    desk.say(start(0))
    desk.say(SampleKeys(0, 0, KEYS))
    desk.say(SampleImages(0, [3, 4], IMAGES[3:5]))
    desk.say(CaptureChunk(0, 0, 0, np.zeros((N, 2), np.float32)))
    assert desk.say(waiting) == [Pong], "something came since"
    assert desk.say(waiting) == [Pong, ImagesWanted]
    assert desk.sent[1].rows == [row for row in range(N) if row not in (3, 4)]
    desk.say(SampleImages(0, desk.sent[1].rows, IMAGES[desk.sent[1].rows]))
    assert desk.ingest.sessions["r"].pending == {0}
    desk.say(start(1))
    assert desk.say(Heartbeat({}, [1])) == [Pong, Unknown], "its keys were lost: from the beginning"


def test_a_stream_capture_beyond_the_limits_is_lost_in_words(desk: Desk) -> None:
    desk.say(STREAM)
    assert desk.say(start(0, kind="tape")) == [CaptureAck]
    assert "kind 'tape' are not known" in desk.sent[0].outcome
    desk.say(start(1))
    assert desk.say(SampleKeys(1, 0, KEYS[::-1].copy())) == [CaptureAck]
    assert "do not match the fingerprint" in desk.sent[0].outcome
    assert desk.say(SampleKeys(1, 0, KEYS)) == [], "it is forgotten"
    assert desk.say(start(2, count=8)) == [Refuse]
    assert "8 images, detector cos_cubed needs 32" in desk.sent[0].reason
    assert len(desk.reader.gaps("r")) == 2


def test_requests_are_passed_on_and_their_answers_go_back_to_who_asked(desk: Desk) -> None:
    desk.say(HELLO)
    assert desk.say(Request(7, "layers", ["b"]), epoch="somebody") == [Request]
    passed = desk.sent[0]
    assert (passed.action, passed.layers) == ("layers", ["b"])
    assert desk.say(Answer(passed.number, False, "unknown layer 'b'")) == [Answer]
    assert desk.sent[0] == Answer(7, False, "unknown layer 'b'")
    assert desk.say(Answer(passed.number, True, "again")) == [], "an answer is passed on once"
    assert desk.say(Answer(99, True, "never asked")) == []


@pytest.mark.parametrize(
    ("request_", "run", "said"),
    [
        (Request(1, "capture"), "none", "no run 'none' here; connected: r"),
        (Request(1, "capture"), "old", "run 'old' is not connected (finished)"),
        (Request(1, "dance"), "r", "request 'dance': choose one of capture, pause"),
        (Request(1, "layers"), "r", "names no layer"),
        (Request(1, "layers", [3]), "r", "names no layer"),
    ],
)
def test_requests_that_cannot_be_passed_on_are_answered_at_once(
    desk: Desk, request_: Request, run: str, said: str
) -> None:
    desk.say(HELLO)
    desk.ingest._counter.writer.save_run("old", state="finished")
    assert desk.say(request_, run=run, epoch="somebody") == [Answer]
    assert not desk.sent[0].accepted
    assert said in desk.sent[0].text


def test_an_image_is_stored_once_and_keeps_its_first_look(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path)
    keys = [bytes(key).hex() for key in KEYS[:3]]
    writer.pictures.save_images({keys[0]: IMAGES[0], keys[1]: IMAGES[1]})
    writer.pictures.save_images({keys[0]: IMAGES[9], keys[2]: IMAGES[2][:2]})
    writer.pictures.save_images({})
    writer.pictures.save_set("f", keys)
    reader = StoreReader(tmp_path)
    for row, image in enumerate((IMAGES[0], IMAGES[1], IMAGES[2][:2])):
        np.testing.assert_array_equal(reader.probe_image("f", row), image)
    assert set(reader.pictures.digests([*keys, "00"])) == set(keys)
    for fingerprint, sample in (("f", 3), ("g", 0)):
        with pytest.raises(StoreError):
            reader.probe_image(fingerprint, sample)
    with pytest.raises(StoreError, match="1 images are not stored"):
        reader.pictures.images([keys[0], "00"])
    writer.close()
    reader.close()


def test_an_image_is_embedded_once_also_across_servers_and_with_little_memory(tmp_path: Path) -> None:
    encoder = PlantedEncoder()
    digests = [str(i) for i in range(N)]
    loaded: list[int] = []

    def load(rows) -> list[np.ndarray]:
        loaded.extend(rows)
        return [IMAGES[row] if row % 2 else IMAGES[row][:2] for row in rows]

    first = ImageEmbeddings(encoder, ArrayCache(tmp_path), memory=4 * encoder.dim * 5)
    found = first.get(digests, load)
    assert loaded == list(range(N))
    assert first.embedded == N
    np.testing.assert_array_equal(found[3], encoder.encode_images(IMAGES[3:4])[0])
    np.testing.assert_array_equal(found[4], encoder.encode_images(IMAGES[4:5, :2])[0])
    again = first.get([digests[5], digests[1], digests[5]], load)
    np.testing.assert_array_equal(again, found[[5, 1, 5]])
    second = ImageEmbeddings(encoder, ArrayCache(tmp_path))
    np.testing.assert_array_equal(second.get(digests, load), found)
    assert len(loaded) == N
    assert second.embedded == 0
