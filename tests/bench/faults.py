"""What a training step costs while something is broken, against the same training while nothing is.

    python tests/bench/faults.py --json

One training process (ResNet-8, a monitor at its defaults) and one real server. For each fault, blocks of steps with
and without it in random order, pairs of blocks side by side in time; the ratio of a pair's step times, its median over
all pairs and a bootstrapped 95 % interval. ``control`` is an A/A comparison: pairs in which nothing is ever broken.
What a fault needs to begin and to end (a server's start, half a second to settle) is in no block.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))

import numpy as np
import torch
from forked_servers import Server, Servers, nursery
from torch import nn
from wire_proxy import Proxy

import cm_client
from cm_client.examples.resnet8 import ResNet8

SETTLE = 0.5
GOAL = 0.05


class Training:
    """A run that steps when told to."""

    def __init__(self, address: str, batch: int, probes: int) -> None:
        torch.manual_seed(0)
        self.model = ResNet8(10)
        self.optimiser = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.images, self.labels = torch.randn(batch, 3, 32, 32), torch.randint(0, 10, (batch,))
        pictures = np.random.default_rng(0).integers(0, 256, (probes, 32, 32, 3)).astype(np.uint8)
        self.monitor = cm_client.watch(self.model, server=address, run="bench", probe=cm_client.ProbeSet(pictures))

    def steps(self, seconds: float) -> float:
        """Steps for a while; mean seconds of one."""
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            loss = nn.functional.cross_entropy(self.model(self.images), self.labels)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            self.monitor.log(loss=loss.detach())
            count += 1
        return (time.perf_counter() - started) / count


class RemoteProxy:
    """A `Proxy` in a process of its own, so that it takes no part of the trainer's interpreter lock."""

    def __init__(self, target: str) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._orders, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_proxy, args=(target, theirs), daemon=True)
        self._process.start()
        self.address: str = self._orders.recv()

    def order(self, **faults: Any) -> None:
        """Changes what is done to the bytes; ``cut`` closes all connections every so many seconds."""
        self._orders.send(faults)
        self._orders.recv()

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.join()


def _proxy(target: str, orders: Connection) -> None:
    proxy, every = Proxy(target), 0.0
    orders.send(proxy.address)
    while True:
        if orders.poll(every or None):
            faults = orders.recv()
            every, proxy.target = faults.pop("cut", 0.0), faults.pop("target", proxy.target)
            for name, value in faults.items():
                setattr(proxy.faults, name, value)
            orders.send("done")
        else:
            proxy.cut()


class World:
    """Server, proxy and what can be broken about them."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self._servers, self._store = servers, folder / "store"
        self.server = self._started()
        self.proxy = RemoteProxy(self.server.address)

    def _started(self) -> Server:
        return self._servers.start(self._store)

    @contextmanager
    def control(self) -> Iterator[None]:
        """Nothing is broken."""
        yield

    @contextmanager
    def server_killed(self) -> Iterator[None]:
        """kill -9; another one is started after the block."""
        self.server.kill()
        yield
        self.server = self._started()
        host, port = self.server.address.removeprefix("tcp://").rsplit(":", 1)
        self.proxy.order(target=(host, int(port)))

    @contextmanager
    def server_frozen(self) -> Iterator[None]:
        """SIGSTOP: the connection stays, nobody reads."""
        self.server.signal(signal.SIGSTOP)
        yield
        self.server.signal(signal.SIGCONT)

    @contextmanager
    def disk_full(self) -> Iterator[None]:
        """No file of the server may grow."""
        before = resource.prlimit(self.server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.server.pid, resource.RLIMIT_FSIZE, (0, before[1]))
        yield
        resource.prlimit(self.server.pid, resource.RLIMIT_FSIZE, before)

    @contextmanager
    def store_locked(self) -> Iterator[None]:
        """Another process holds the index's write lock."""
        other = sqlite3.connect(self._store / "index.sqlite", isolation_level=None, timeout=10)
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
        other.close()

    @contextmanager
    def black_hole(self) -> Iterator[None]:
        """The network swallows everything."""
        self.proxy.order(hold=True)
        yield
        self.proxy.order(hold=False)

    @contextmanager
    def connection_cut(self) -> Iterator[None]:
        """Connections are closed ten times a second."""
        self.proxy.order(cut=0.1)
        yield
        self.proxy.order()

    @contextmanager
    def slow_network(self) -> Iterator[None]:
        """100 ms each way, 256 KiB a second."""
        self.proxy.order(delay=0.1, rate=2**18)
        yield
        self.proxy.order(delay=0.0, rate=0)

    @property
    def faults(self) -> dict[str, Callable[[], Any]]:
        """Every fault by name, the control first."""
        methods = (
            self.control, self.server_killed, self.server_frozen, self.disk_full, self.store_locked, self.black_hole,
            self.connection_cut, self.slow_network,
        )  # fmt: skip
        return {method.__name__.replace("_", " "): method for method in methods}


def measure(world: World, training: Training, pairs: int, seconds: float) -> dict[str, list[float]]:
    """Ratios of step times with a fault to those without, by fault."""
    order, ratios = np.random.default_rng(0), {name: list[float]() for name in world.faults}
    training.steps(3.0)
    for _ in range(pairs):
        for name in order.permutation(list(ratios)):
            times = {}
            for broken in order.permutation([False, True]):
                with (world.faults[str(name)] if broken else world.control)():
                    training.steps(0.1)
                    times[bool(broken)] = training.steps(seconds)
                training.steps(SETTLE)
            ratios[str(name)].append(times[True] / times[False])
    return ratios


def summary(ratios: list[float]) -> dict[str, Any]:
    """Median and its bootstrapped 95 % interval; ``within`` says whether all of the interval is below the goal."""
    draws = np.random.default_rng(0).choice(ratios, (4000, len(ratios)))
    low, high = (float(q) for q in np.quantile(np.median(draws, axis=1), (0.025, 0.975)))
    return {"median": statistics.median(ratios), "low": low, "high": high, "within": high <= 1 + GOAL}


def main() -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--pairs", type=int, default=12, help="pairs of blocks for each fault (default 12)")
    parser.add_argument("--seconds", type=float, default=1.5, help="of a block (default 1.5)")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--probes", type=int, default=256, help="images in the probe set (default 256)")
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, nursery({"OMP_NUM_THREADS": "1"}) as forking:
        folder = Path(name)
        os.environ |= {f"XDG_{kind}_HOME": name for kind in ("DATA", "CACHE", "STATE")}
        world = World(Servers(forking, folder / "cache", folder), folder)
        training = Training(world.proxy.address, options.batch, options.probes)
        ratios = measure(world, training, options.pairs, options.seconds)
        stats = training.monitor.stats()
        training.monitor.finish(timeout=10)
        world.proxy.close()
        world.server.kill()
    found = {name: summary(values) for name, values in ratios.items()}
    result = {"faults": found, "stats": {k: stats[k] for k in ("captures", "captures_acked", "step") if k in stats}}
    print(json.dumps(result, indent=2)) if options.json else _report(result, options)
    return 0


def _report(result: dict[str, Any], options: argparse.Namespace) -> None:
    print(f"step time with a fault / without, {options.pairs} pairs of {options.seconds} s: median [95 %]")
    for name, row in result["faults"].items():
        goal = "" if name == "control" else f"  {'within' if row['within'] else 'NOT SHOWN within'} {GOAL:.0%}"
        print(f"  {name:<16} {row['median']:.4f} [{row['low']:.4f}, {row['high']:.4f}]{goal}")
    print(f"  {result['stats']}")


if __name__ == "__main__":
    sys.exit(main())
