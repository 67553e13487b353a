"""Asking the server: once, in the background, honest about silence; and the orders of anchors."""

import os
import threading
import time

import numpy as np
import pytest
from test_dashboard_components import run_info

from cm_server.control import Inbox
from cm_server.events import write_discovery
from dashboard import anchor_orders, asking
from dashboard.asking import NO_SERVER, Answer, Asking
from dashboard.orders import OrderError

GOOD = {
    "text": "fur",
    "vector": [0.6, 0.8],
    "place": [1.0, 2.0],
    "encoder": "planted",
    "fingerprint": "f",
    "concepts": [[3, "fur", 0.9]],
    "images": [],
}


class Server:
    """The other end: answers what it is told to, until the block ends."""

    def __init__(self, store, handle, folder):
        self._inbox, self._stop = Inbox(store, handle, folder), threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self):
        while not self._stop.wait(0.01):
            self._inbox.serve()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(20)


def until(ask, seconds=20.0):
    deadline = time.monotonic() + seconds
    while (found := ask()) is None:
        assert time.monotonic() < deadline, "no answer"
        time.sleep(0.01)
    return found


def test_no_server_is_said_at_once_and_nothing_is_left_in_the_store(tmp_path):
    assert Asking(tmp_path).near(run_info(), "fur") == NO_SERVER
    assert list(tmp_path.iterdir()) == []


def test_a_question_is_asked_once_for_all_tabs_and_its_answer_outlives_the_server(tmp_path):
    asked = []
    lives = [True]
    desk = Asking(tmp_path, lambda: lives[0])
    with Server(tmp_path, lambda question: (asked.append(dict(question)), GOOD)[1], asking.FOLDER):
        found = until(lambda: desk.near(run_info(), "Fur "))
        for text in ("fur", " FUR", "fur"):
            assert desk.near(run_info(), text) is found
    assert isinstance(found, Answer)
    assert found.vector == pytest.approx(np.array([0.6, 0.8]))
    assert asked == [{"ask": "near", "run": "r1", "text": "Fur ", "count": asking.HITS}]
    lives[0] = False
    assert desk.near(run_info(), "fur") is found
    assert desk.near(run_info(), "mud") == NO_SERVER
    assert desk.near(run_info(map_fingerprint="other"), "fur") == NO_SERVER, "another map is another question"


def test_a_refusal_is_told_in_the_servers_words_and_not_asked_again_at_once(tmp_path):
    asked = []

    def refuse(question):
        asked.append(question)
        raise ValueError("the server is laying out its words: ask again in a moment")

    desk = Asking(tmp_path, lambda: True)
    with Server(tmp_path, refuse, asking.FOLDER):
        said = until(lambda: desk.near(run_info(), "fur"))
        assert said == "The server gave no answer: the server is laying out its words: ask again in a moment"
        assert desk.near(run_info(), "fur") == said
    assert len(asked) == 1


def test_a_senseless_answer_and_a_silent_server_are_said(tmp_path, monkeypatch):
    desk = Asking(tmp_path, lambda: True)
    with Server(tmp_path, lambda question: {"vector": "x"}, asking.FOLDER):
        assert "makes no sense" in until(lambda: desk.near(run_info(), "fur"))
    monkeypatch.setattr(asking, "PATIENCE_SECONDS", 0.1)
    assert "did not answer within 0.1 s" in until(lambda: desk.near(run_info(), "mud"))


def test_a_server_process_of_this_machine_is_known_by_its_own_word(tmp_path):
    write_discovery(tmp_path, "tcp://127.0.0.1:1", "tcp://127.0.0.1:2")
    assert Asking(tmp_path).server_lives, f"process {os.getpid()} wrote it"


def test_orders_of_anchors_are_carried_out_or_refused_in_words(tmp_path):
    answer = asking.answer_of(GOOD)
    orders = []

    def carry_out(command):
        orders.append(dict(command))
        if command["do"] == "unanchor":
            raise ValueError("run 'r1' has no anchor 'mud'")
        return {}

    with Server(tmp_path, carry_out, "control"):
        anchor_orders.carry_out(tmp_path, anchor_orders.addition("r1", "wanted", answer), True)
        with pytest.raises(OrderError, match="Not done: run 'r1' has no anchor 'mud'"):
            anchor_orders.carry_out(tmp_path, anchor_orders.removal("r1", "mud"), True)
    assert orders[0]["vector"] == pytest.approx([0.6, 0.8])
    assert {k: orders[0][k] for k in ("do", "run", "word", "wish", "encoder")} == {
        "do": "anchor",
        "run": "r1",
        "word": "fur",
        "wish": "wanted",
        "encoder": "f",
    }
    with pytest.raises(OrderError, match="nothing was changed"):
        anchor_orders.carry_out(tmp_path, anchor_orders.removal("r1", "fur"), False)
