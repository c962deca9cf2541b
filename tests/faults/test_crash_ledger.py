"""Nothing lost, nothing twice, whenever the daemon is killed."""

import subprocess
from pathlib import Path
from random import Random

import pytest

from tests.faults.ledger import STEPS, Ledger, Step, Strike, strikes
from tests.support.machine import lacking, needs

SYNCS = 12
"""How often a life syncs the disk in which a few tracks end, from the opening of the state file on."""


@pytest.mark.parametrize("seed", [1, 3])
async def test_every_event_reaches_every_target_and_only_an_attempt_under_way_at_a_kill_repeats(
    tmp_path: Path, seed: int
) -> None:
    rng = Random(seed)
    verdict = await Ledger(tmp_path, rng, strikes(rng, 2 * len(STEPS)), tracks=42).run()
    assert verdict.violations == []
    assert verdict.kills == dict.fromkeys(STEPS, 2)
    assert verdict.events == 42


@pytest.fixture
def tracer() -> None:
    needs("strace")
    if subprocess.run(["strace", "-o", "/dev/null", "true"], check=False, capture_output=True).returncode:
        lacking("processes cannot be traced here")


@pytest.mark.usefixtures("tracer")
async def test_the_same_holds_for_a_kill_before_each_sync_of_the_disk(tmp_path: Path) -> None:
    """One life of the daemon ends before its first sync, the next before its second, and so on."""
    before_each = [Strike(Step.AT_SYNC, number) for number in range(1, SYNCS + 1)]
    verdict = await Ledger(tmp_path, Random(4), before_each, tracks=3 * SYNCS).run()
    assert verdict.violations == []
    assert verdict.kills == {Step.AT_SYNC: SYNCS}
