"""Power lost at every stage: only what was synced is left, and every acknowledgement still holds.

The only true test of ack-after-commit: a killed process leaves its writes to the system, a dark machine does not.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from driving import assert_same, content, drive, random_stages, stages
from forked_servers import Servers
from power import cut
from promised import Client

pytestmark = pytest.mark.usefixtures("shimmed")


def drive_in_the_dark(
    servers: Servers, store: Path, client: Client, faults: list[str], chance: random.Random | None, **options: Any
) -> int:
    """A whole run; each death of a server is a loss of power."""
    shadow = store.parent.with_name(store.parent.name + "-shadow")
    shadow.mkdir()
    seen = {"CM_SYNC_ROOT": f"{store.parent}", "CM_SYNC_SHADOW": f"{shadow}"}
    return drive(servers, store, client, faults, lambda: cut(store.parent, shadow, chance), **seen, **options)


@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("seed", [None, pytest.param(1, marks=pytest.mark.soak)])
def test_what_was_acknowledged_outlives_a_loss_of_power_at_every_stage(
    seed: int | None, half: int, servers: Servers, store: Path, client: Client, undisturbed: dict[str, Any]
) -> None:
    """Nothing more than what was synced is left; or, by chance, some pages and names that nobody asked for."""
    chance = None if seed is None else random.Random(seed)
    faults = [f"kill {point} 1" for point in stages(half)]
    assert drive_in_the_dark(servers, store, client, faults, chance) == len(faults)
    assert_same(content(store), undisturbed)


def test_a_commit_whose_layers_lie_in_two_segments_is_synced_in_both(
    servers: Servers, store: Path, client: Client, undisturbed: dict[str, Any]
) -> None:
    faults = [f"kill snapshot-committed {number}" for number in (1, 2, 1)]
    assert drive_in_the_dark(servers, store, client, faults, None, segment_bytes=1) == 3
    assert_same(content(store), undisturbed)


@pytest.mark.soak
def test_a_hundred_losses_of_power_lose_nothing(servers: Servers, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    chance, deaths, number = random.Random(0), 0, 0
    while deaths < 100:
        number += 1
        (tmp_path / str(number)).mkdir()
        store, client = tmp_path / str(number) / "store", Client()
        faults = [f"kill {point} {chance.randint(1, 3)}" for point in random_stages(chance, 8)]
        luck = chance if number % 2 else None
        deaths += drive_in_the_dark(servers, store, client, faults, luck, segment_bytes=chance.choice((0, 20_000)))
        client.close()
        assert_same(content(store), undisturbed)
