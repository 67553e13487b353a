"""A store whose snapshots keep all similarities, so that what is recomputed from them can be held against them."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from store_factory import MAP_FINGERPRINT, Factory

from cm_server import recompute
from cm_server.core.levels import to_levels
from cm_server.notices import DEAD, QUEUED, Item, Letter, Notice
from cm_server.report import TOP_CONCEPTS, LayerReport
from cm_server.stores.delivery_writer import DeliveryWriter
from cm_server.stores.reader import StoreReader
from cm_server.stores.writer import StoreWriter

TEMPERATURE = 0.05


class KeptFactory(Factory):
    """Like the factory, with u, labels and d_anchor computed from similarities that are stored in full."""

    def __init__(self, directory: Path, *arguments, **options) -> None:
        super().__init__(directory, *arguments, **options)
        self.writer.save_map(MAP_FINGERPRINT, self.map, self.text)

    def _layer(self, run: str, layer: str, done: float, fingerprint: str) -> LayerReport:
        made = super()._layer(run, layer, done, fingerprint)
        live, targets = made.arrays.live, self._targets[f"{run}/{layer}"]
        follows = 0.5 * done * (self.text[targets] @ self.text.T)
        similarity = (follows + self.random.normal(0, 0.03, follows.shape)).astype(np.float32)
        levels, ends = to_levels(torch.from_numpy(similarity))
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :TOP_CONCEPTS]
        best = np.take_along_axis(similarity, order, axis=1)
        arrays = replace(
            made.arrays,
            concepts=np.where(live[:, None], order, -1).astype(np.int32),
            similarities=np.where(live[:, None], best, 0).astype(np.float32),
            margin=np.where(live, best[:, 0] - 0.1, np.nan).astype(np.float32),
            embeddings=np.where(live[:, None], recompute.embeddings(similarity, self.text, TEMPERATURE), np.nan).astype(
                np.float32
            ),
            levels=levels.numpy(),
            ends=np.where(live[:, None], ends.numpy(), np.nan).astype(np.float32),
        )
        return LayerReport(self._summary(layer, arrays, fingerprint), arrays)


def add_letters(writer: StoreWriter, run: str, now: float) -> None:
    """One notice that was given up, one that is still being tried."""
    tables, reader = DeliveryWriter(writer.transaction), StoreReader(writer.directory)
    alert = reader.alerts(run)[0]
    for number, (state, error) in enumerate(((DEAD, "the receiver said <b>410 Gone</b>"), (QUEUED, "timed out"))):
        notice = Notice(f"{number:032x}", "slack.team", run, now, (Item(alert, "firing"),))
        tables.write_down(Letter(notice, now, state=state, attempts=3 + number, error=error), {}, None)
    reader.close()


def fill_other(factory: Factory, run: str, fingerprint: str, snapshots: int = 6, **values: object) -> None:
    """A run under other settings: another fingerprint, and what ``values`` says of the run."""
    factory.begin(run, name=run)
    factory.ready(run, **values)
    for index in range(snapshots):
        factory.snapshot(
            run, 20 * index, index / snapshots, fingerprint=fingerprint, at=time.time() - snapshots + index
        )
        factory.scalars(run, 20 * index, loss=2.0 - 0.2 * index)
