"""Two-rank trainings with Lightning and with transformers' Trainer, for test_integration_ranks.

A process of its own that imports both libraries once and forks the ranks; each rank prints one line of JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from cm_client.monitor import Monitor

warnings.simplefilter("ignore")


def _heard(monitor: Monitor, step: int, rank: int) -> None:
    """At step 4, rank 0 waits for the alert that the test's server sends; nobody else ever hears of it."""
    end = time.monotonic() + 60
    while rank == 0 and step == 4 and not monitor.alerts:
        assert time.monotonic() < end, "no alert came"
        time.sleep(0.01)


def lightning(server: str, rank: int, folder: str) -> tuple[int, bool]:
    from test_lightning import ConceptMonitorCallback, loader, module_of, new_name, trainer

    class Waits(new_name.Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            _heard(callback.monitor, trainer.global_step, rank)

    callback = ConceptMonitorCallback(server=server, run="ranks", every=2, probe_size=40, auto_stop=True)
    fit = trainer(new_name, Path(folder), Waits(), callback, devices=2, strategy="ddp", max_epochs=20)
    fit.fit(module_of(new_name), loader())
    return fit.global_step, bool(callback.monitor.run)


def hf_trainer(server: str, rank: int, folder: str) -> tuple[int, bool]:
    from test_hf_trainer import ConceptMonitorCallback, TrainerCallback, training

    class Waits(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            _heard(callback.monitor, state.global_step, rank)

    callback = ConceptMonitorCallback(server=server, run="ranks", every=2, probe_size=40, auto_stop=True)
    found = training(Path(folder), Waits(), callback, num_train_epochs=20, ddp_backend="gloo")
    found.train()
    return found.state.global_step, bool(callback.monitor.run)


def _rank(library: str, server: str, rank: int, folder: str) -> None:
    training = {"lightning": lightning, "hf_trainer": hf_trainer}[library]
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    steps, watched = training(server, rank, folder)
    line = json.dumps({"library": library, "rank": rank, "steps": steps, "watched": watched})
    os.write(1, f"{line}\n".encode())  # in one piece: the other rank writes to the same pipe


def main(servers: dict[str, str], folder: str) -> None:
    """Each library in turn, against its own server."""
    import test_hf_trainer  # noqa: F401 (here, and not once in each rank)
    import test_lightning  # noqa: F401

    torch.set_num_threads(1)
    fork = multiprocessing.get_context("fork")
    for library, server in servers.items():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        # As torchrun starts them: both libraries ask for its mark.
        mark = {"LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test"}
        os.environ |= mark | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
        ranks = [fork.Process(target=_rank, args=(library, server, rank, folder)) for rank in (0, 1)]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2])
