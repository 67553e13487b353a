"""Tables of the store's index."""

from __future__ import annotations

import sqlalchemy as sa

SCHEMA_VERSION = 3
"""2 and 3 add tables, columns and indexes; nothing was renamed or removed, so a writer can upgrade in place."""

_Whole = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
"""Any whole number of 64 bits: SQLite's INTEGER holds these, PostgreSQL's does not."""
metadata = sa.MetaData()

meta = sa.Table("meta", metadata, sa.Column("key", sa.Text, primary_key=True), sa.Column("value", sa.Text))

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("updated", sa.Float, nullable=False),
    sa.Column("model", sa.Text, nullable=False, default=""),
    sa.Column("planned_steps", _Whole),
    sa.Column("activity", sa.Text, nullable=False, default=""),
    sa.Column("encoder", sa.Text, nullable=False, default=""),
    sa.Column("detector", sa.Text, nullable=False, default=""),
    sa.Column("temperature", sa.Float),
    sa.Column("probes", _Whole, nullable=False, default=0),
    sa.Column("probe_fingerprint", sa.Text, nullable=False, default=""),
    sa.Column("probe_source", sa.Text, nullable=False, default=""),
    sa.Column("concept_fingerprint", sa.Text, nullable=False, default=""),
    sa.Column("map_fingerprint", sa.Text, nullable=False, default=""),
    sa.Column("config", sa.JSON, nullable=False, default=dict),
    sa.Column("stats", sa.JSON, nullable=False, default=dict),
    sa.Column("sample", sa.Text, nullable=False, default="probe", server_default="probe"),
    sa.Column("revision", _Whole, nullable=False, server_default="0"),
    sa.Column("title", sa.Text, nullable=False, server_default=""),
    sa.Column("tags", sa.JSON, nullable=False, server_default="[]"),
)
"""``name`` is what the training calls itself, ``title`` what a person called the run since, ``tags`` are a person's."""

epochs = sa.Table(
    "epochs",
    metadata,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("epoch", sa.Text, primary_key=True),
    sa.Column("begun", sa.Float, nullable=False),
    sa.Column("start_step", _Whole),
    sa.Column("first_step", _Whole),
    sa.Column("last_step", _Whole),
    sa.Column("ended", sa.Text, nullable=False, server_default=""),
)

layers = sa.Table(
    "layers",
    metadata,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("layer", sa.Text, primary_key=True),
    sa.Column("position", _Whole, nullable=False),
    sa.Column("units", _Whole, nullable=False),
)

snapshots = sa.Table(
    "snapshots",
    metadata,
    sa.Column("sequence", _Whole, primary_key=True, autoincrement=True),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("capture", _Whole, nullable=False),
    sa.Column("step", _Whole, nullable=False),
    sa.Column("captured_at", sa.Float, nullable=False),
    sa.Column("received_at", sa.Float, nullable=False),
    sa.Column("committed_at", sa.Float, nullable=False),
    sa.Column("seconds", sa.JSON, nullable=False),
    sa.Column("epoch", sa.Text, nullable=False),
    sa.Column("probe_fingerprint", sa.Text, nullable=False, server_default=""),
    sa.UniqueConstraint("run", "epoch", "capture"),
    sqlite_autoincrement=True,
)
sa.Index("snapshots_by_step", snapshots.c.run, snapshots.c.step)

layer_reports = sa.Table(
    "layer_reports",
    metadata,
    sa.Column("sequence", _Whole, primary_key=True),
    sa.Column("layer", sa.Text, primary_key=True),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("step", _Whole, nullable=False),
    sa.Column("summary", sa.JSON, nullable=False),
    sa.Column("segment", sa.Text, nullable=False),
    sa.Column("offset", sa.BigInteger, nullable=False),
    sa.Column("length", sa.BigInteger, nullable=False),
    sa.Column("crc32", sa.BigInteger, nullable=False),
    sa.Column("arrays", sa.JSON, nullable=False),
    sa.Column("seal", sa.BigInteger),
)
"""``segment`` is empty where the arrays were given up to save space (`core.retention`): the summary stays. ``seal``:
checksum of the row (`seals.seal_of`); null where an earlier version wrote it."""
sa.Index("layer_reports_by_run", layer_reports.c.run, layer_reports.c.layer, layer_reports.c.sequence)
sa.Index(
    "layer_reports_by_step",
    layer_reports.c.run,
    layer_reports.c.layer,
    layer_reports.c.step,
    layer_reports.c.sequence,
)

layer_descriptions = sa.Table(
    "layer_descriptions",
    metadata,
    sa.Column("sequence", _Whole, primary_key=True),
    sa.Column("layer", sa.Text, primary_key=True),
    sa.Column("texts", sa.JSON, nullable=False),
)

scalars = sa.Table(
    "scalars",
    metadata,
    sa.Column("id", _Whole, primary_key=True, autoincrement=True),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("epoch", sa.Text, nullable=False),
    sa.Column("number", _Whole, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("step", _Whole, nullable=False),
    sa.Column("time", sa.Float, nullable=False),
    sa.Column("value", sa.Float),
    sa.UniqueConstraint("run", "epoch", "number", "name"),
)
sa.Index("scalars_by_run", scalars.c.run, scalars.c.id)

alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("id", _Whole, primary_key=True, autoincrement=True),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("layer", sa.Text, nullable=False),
    sa.Column("rule", sa.Text, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("step", _Whole, nullable=False),
    sa.Column("opened", sa.Float, nullable=False),
    sa.Column("updated", sa.Float, nullable=False),
    sa.Column("value", sa.Float),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("details", sa.JSON, nullable=False),
    sqlite_autoincrement=True,
)
sa.Index("alerts_by_run", alerts.c.run, alerts.c.id)

acknowledgements = sa.Table(
    "acknowledgements",
    metadata,
    sa.Column("alert", _Whole, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
)

silences = sa.Table(
    "silences",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("matchers", sa.JSON, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("expires", sa.Float, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
)

notices = sa.Table(
    "notices",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("items", sa.JSON, nullable=False),
    sa.Column("queued", sa.Float, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempts", _Whole, nullable=False),
    sa.Column("next_at", sa.Float, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
)
sa.Index("notices_by_state", notices.c.state, notices.c.created)

told = sa.Table(
    "told",
    metadata,
    sa.Column("channel", sa.Text, primary_key=True),
    sa.Column("alert", _Whole, primary_key=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("delivered", sa.Boolean, nullable=False),
)

gaps = sa.Table(
    "gaps",
    metadata,
    sa.Column("id", _Whole, primary_key=True, autoincrement=True),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("step", _Whole, nullable=False),
    sa.Column("time", sa.Float, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("epoch", sa.Text, nullable=False, server_default=""),
    sa.Column("capture", _Whole),
    sqlite_autoincrement=True,  # an id is never given twice, so that "after" means later
)
sa.Index("gaps_by_run", gaps.c.run, gaps.c.capture)

images = sa.Table(
    "images",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("segment", sa.Text, nullable=False),
    sa.Column("offset", sa.BigInteger, nullable=False),
    sa.Column("length", sa.BigInteger, nullable=False),
    sa.Column("crc32", sa.BigInteger, nullable=False),
    sa.Column("arrays", sa.JSON, nullable=False),
)
"""Images of stream captures, each once; ``digest`` is the sha256 of what it shows, whatever its key was made of."""

sample_sets = sa.Table(
    "sample_sets",
    metadata,
    sa.Column("fingerprint", sa.Text, primary_key=True),
    sa.Column("image_keys", sa.LargeBinary, nullable=False),
)
"""Which images a stream capture was taken on: 32 bytes of key for each, in the order of its rows."""

files = sa.Table(
    "files",
    metadata,
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("length", sa.BigInteger, nullable=False),
    sa.Column("crc32", sa.BigInteger, nullable=False),
)
"""Checksums of whole files (maps, probe sets), by their path in the store; an earlier version listed none."""

concept_sets = sa.Table(
    "concept_sets",
    metadata,
    sa.Column("fingerprint", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("words", sa.JSON, nullable=False),
    sa.Column("categories", sa.JSON, nullable=False),
)

user_anchors = sa.Table(
    "user_anchors",
    metadata,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("word", sa.Text, primary_key=True),
    sa.Column("wish", sa.Text, nullable=False),
    sa.Column("vector", sa.LargeBinary, nullable=False),
    sa.Column("x", sa.Float, nullable=False),
    sa.Column("y", sa.Float, nullable=False),
    sa.Column("encoder", sa.Text, nullable=False),
    sa.Column("author", sa.Text, nullable=False, server_default=""),
    sa.Column("created", sa.Float, nullable=False),
)
"""Words that people added to a run; ``vector`` is float32, little-endian."""
