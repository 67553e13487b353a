"""What people do to the runs of a store: rename, tag, delete, prune, compact. Commands are plain JSON.

Small ones are done at once. Long ones are a `Job` of small steps: a server takes one between two messages, a command
that has the store to itself takes them one after the other. Twice is the same as once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from cm_server.core.retention import Retention, RetentionError, parse
from cm_server.stores import removal, schema
from cm_server.stores.compaction import Step, compact, forget_images, of_images, of_run
from cm_server.stores.pruning import doomed
from cm_server.stores.writer import StoreWriter

OPERATIONS = ("rename", "tag", "delete", "prune", "compact", "progress")
KEEP_TAG = "keep"
"""A run with this tag loses nothing to rules that were not given for it by name."""
MOST_TEXT, MOST_TAGS, MOST_PROBLEMS = 200, 50, 20


class KeepingError(ValueError):
    """The command makes no sense, or cannot be carried out now; the message names value and cure."""


class Job:
    """A command that takes a while.

    Attributes:
        key: its number.
        state: how far it is, as plain JSON: ``done``, ``steps``, ``about``, ``freed`` (bytes), ``snapshots``,
            ``problems``.
    """

    def __init__(self, key: int, steps: Iterator[Step]) -> None:
        self.key, self._steps = key, steps
        self.state: dict[str, Any] = {
            "job": key, "done": False, "steps": 0, "about": "", "freed": 0, "snapshots": 0, "problems": []
        }  # fmt: skip

    def advance(self) -> bool:
        """Takes one step; returns whether there are more."""
        try:
            step = next(self._steps, None)
        except Exception as error:
            self.state |= {"done": True, "problems": [*self.state["problems"], f"{type(error).__name__}: {error}"]}
            raise
        if step is None:
            self.state["done"] = True
            return False
        state = self.state
        state["steps"] += 1
        state |= {"about": step.about, "freed": state["freed"] + step.freed}
        state["snapshots"] += step.snapshots
        if step.problem and len(state["problems"]) < MOST_PROBLEMS:
            state["problems"].append(step.problem)
        return True


class Keeper:
    """Carries commands out.

    Args:
        writer: the store's.
        release: lets go of a run that is to be deleted; returns the reason why it cannot, or nothing.
        alone: whether nobody waits for the store meanwhile.
    """

    def __init__(self, writer: StoreWriter, release: Callable[[str], str] = lambda run: "", alone: bool = True) -> None:
        self._writer, self._release, self._alone = writer, release, alone
        self.job: Job | None = None

    def carry_out(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Carries a command out, or begins with it.

        Args:
            command: ``do`` is one of `OPERATIONS`; the other keys are its own.

        Returns:
            What was done, or a job's state.

        Raises:
            KeepingError: it makes no sense, or another job is under way.
        """
        do = command.get("do")
        if do == "progress":
            return self._progress(command.get("job"))
        if do in ("rename", "tag"):
            return self._rename(command) if do == "rename" else self._tag(command)
        if self.job is not None and not self.job.state["done"]:
            raise KeepingError("the server is busy with another such command: wait until it is done")
        steps = {"delete": self._delete, "prune": self._prune, "compact": self._compact}
        if do not in steps:
            raise KeepingError(f"no command {str(do)[:40]!r}: choose one of {', '.join(OPERATIONS)}")
        begun = steps[str(do)](command)
        self.job = Job(self.job.key + 1 if self.job else 1, begun)
        return dict(self.job.state)

    def prune_run(self, run: str, retention: Retention, thoroughly: bool = False) -> Iterator[Step]:
        """Gives up what these rules do not keep of a run, and the space.

        Args:
            run: run id.
            retention: the rules.
            thoroughly: also the space in the file that is appended to; else that waits until the file is full.
        """
        with self._writer.transaction() as connection:
            gone = doomed(connection, run, retention)
            removal.give_up_arrays(connection, run, gone.sequences)
        yield Step(run, snapshots=len(gone.sequences))
        if gone.sequences:
            yield from (self._compact_all_of if thoroughly else self._compact_run)(run)

    def _compact_run(self, run: str) -> Iterator[Step]:
        writer = self._writer
        return compact(writer.transaction, of_run(writer.directory, run), writer.writing(run))

    def _compact_all_of(self, run: str) -> Iterator[Step]:
        """Its newest segment too: it is closed, and the run's next snapshot begins another."""
        self._writer.release(run)
        return self._compact_run(run)

    def _progress(self, key: Any) -> dict[str, Any]:
        if self.job is None or self.job.key != key:
            raise KeepingError(f"there is no job {str(key)[:20]}: the server was started anew, and it may be half done")
        return dict(self.job.state)

    def _rename(self, command: Mapping[str, Any]) -> dict[str, Any]:
        run, title = self._runs([command.get("run")])[0], _text(command.get("title"), "the name")
        with self._writer.transaction() as connection:
            connection.execute(sa.update(schema.runs).where(schema.runs.c.run == run).values(title=title))
        return {"run": run, "title": title}

    def _tag(self, command: Mapping[str, Any]) -> dict[str, Any]:
        run = self._runs([command.get("run")])[0]
        add, remove = (_tags(command.get(name, [])) for name in ("add", "remove"))
        table = schema.runs
        with self._writer.transaction() as connection:
            had = connection.execute(sa.select(table.c.tags).where(table.c.run == run)).scalar() or []
            tags = sorted({*had, *add} - set(remove))
            if len(tags) > MOST_TAGS:
                raise KeepingError(f"a run has at most {MOST_TAGS} tags, and {run!r} would have {len(tags)}")
            connection.execute(sa.update(table).where(table.c.run == run).values(tags=tags))
        return {"run": run, "tags": tags}

    def _delete(self, command: Mapping[str, Any]) -> Iterator[Step]:
        runs = self._runs(command.get("runs"))
        return (self._deleted(run) for run in runs)

    def _deleted(self, run: str) -> Step:
        if reason := self._release(run):
            return Step(run, problem=reason)
        writer = self._writer
        writer.release(run)
        with writer.transaction() as connection:
            count = sa.select(sa.func.count()).where(schema.snapshots.c.run == run)
            snapshots = int(connection.execute(count).scalar() or 0)
            probes = removal.probe_sets(connection, run)
            removal.delete_rows(connection, run)
            unused = removal.unused(connection, probes)
            removal.forget_probes(connection, unused)
        return Step(run, removal.free_run(writer.directory, run, unused), snapshots=snapshots)

    def _prune(self, command: Mapping[str, Any]) -> Iterator[Step]:
        limit = command.get("limit", 0)
        if type(limit) is not int or not 0 <= limit < 2**53:
            raise KeepingError(f"the limit is {str(limit)[:40]}: give a number of bytes")
        try:
            retention = parse(str(command.get("keep", "")), limit)
        except RetentionError as error:
            raise KeepingError(str(error)) from None
        if retention.keeps_all:
            raise KeepingError("these rules keep everything: give --keep last:N, every:N or thin:N, or --limit SIZE")
        named = command.get("runs")
        runs = self._runs(named) if named else self.prunable()
        return (step for run in runs for step in self.prune_run(run, retention, thoroughly=True))

    def prunable(self) -> list[str]:
        """All runs but those with the tag ``keep``."""
        table = schema.runs.c
        with self._writer.transaction() as connection:
            rows = connection.execute(sa.select(table.run, table.tags).order_by(table.created)).all()
        return [run for run, tags in rows if KEEP_TAG not in tags]

    def _compact(self, command: Mapping[str, Any]) -> Iterator[Step]:
        writer = self._writer
        for run in self._all():
            yield from self._compact_all_of(run)
        known = set(self._all())
        for folder in sorted((writer.directory / removal.SEGMENTS).glob("*")):
            if folder.name not in known:  # its run was deleted, and the server died before the files were
                yield Step(folder.name, removal.free_run(writer.directory, folder.name, ()))
        if self._alone:
            yield from forget_images(writer.transaction)
        yield from compact(writer.transaction, of_images(writer.directory), writer.pictures.writing)
        yield from writer.compact_index(self._alone)

    def _all(self) -> list[str]:
        with self._writer.transaction() as connection:
            return list(connection.execute(sa.select(schema.runs.c.run).order_by(schema.runs.c.created)).scalars())

    def _runs(self, named: Any) -> list[str]:
        """The runs named, each of which is there."""
        if not (isinstance(named, list) and named and all(isinstance(run, str) for run in named)):
            raise KeepingError("name one run or more, by id")
        known = set(self._all())
        for run in named:
            if run not in known:
                raise KeepingError(f"there is no run {run[:64]!r} in this store: concept-monitor runs list shows them")
        return list(dict.fromkeys(named))


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or len(value) > MOST_TEXT or not value.isprintable():
        raise KeepingError(f"{what} is no line of at most {MOST_TEXT} characters")
    return value.strip()


def _tags(values: Any) -> Sequence[str]:
    if not isinstance(values, list) or not all(isinstance(tag, str) for tag in values):
        raise KeepingError("tags are a list of words")
    for tag in values:
        if not tag or len(tag) > 40 or not tag.isprintable() or "," in tag or tag != tag.strip():
            raise KeepingError(f"tag {tag[:40]!r}: give 1 to 40 characters, without a comma or a space at the ends")
    return values
