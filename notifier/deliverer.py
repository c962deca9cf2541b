"""The outbox emptied: a worker for each target, all in parallel, none slowing another.

Never reads a track and never imports what does.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta

from notifier.aftermath import Equipment
from notifier.delivery import Backoff
from notifier.gate import Gate, GateState
from notifier.gatebook import fingerprint, written_down
from notifier.remote import RemoteEnd
from notifier.store import StorageError, StoredGate
from notifier.targets import Target
from notifier.worker import Worker


async def _after(earlier: asyncio.Task[None] | None, worker: Worker) -> None:
    """Run a worker once the earlier one of the same target has ended, lest both send the same."""
    if earlier is not None:
        await asyncio.wait([earlier])
    await worker.run()


class Deliverer:
    """The workers of all targets."""

    def __init__(self, equipment: Equipment) -> None:
        self._equipment = equipment
        equipment.hold = self.hold
        self._workers: dict[str, Worker] = {}
        self._remotes: dict[str, RemoteEnd] = {}
        """By the mark of each remote end, so that targets with the same URL share one gate."""
        self._is_stopping = False
        self._running: dict[str, asyncio.Task[None]] = {}
        self._leaving: dict[str, asyncio.Task[None]] = {}

    async def apply(self, targets: Mapping[str, Target]) -> None:
        """Work for these targets from now on; a target whose URL has changed is asked again at once.

        Raises StorageError.
        """
        salt = await self._equipment.store.salt()
        gates = await self._equipment.store.gates()
        marks = {name: fingerprint(target.remote_end, salt) for name, target in targets.items()}
        for name in [name for name in self._workers if name not in targets]:
            self._remove(name)
        for name, target in targets.items():
            row, mark = gates.get(name), marks[name]
            remote = self._remotes.get(mark) or self._remote_of(mark, [gates.get(other) for other in marks])
            is_new = row is None or row.fingerprint != mark
            if is_new:
                await self._begin(name, mark, remote)
            self._put(name, target, remote)
            self._remotes[mark] = remote
            if is_new and remote.gate.is_paused:
                await self._workers[name].narrator.paused(remote.gate.reason or "paused")
        self._remotes = {mark: remote for mark, remote in self._remotes.items() if remote.senders}

    def _remote_of(self, mark: str, rows: Collection[StoredGate | None]) -> RemoteEnd:
        """Return the remote end as an earlier run left it."""
        gate = Gate(backoff=self._backoff, pace=None, rng=self._equipment.rng)
        remote = RemoteEnd(gate)
        for row in rows:
            if row is not None and row.fingerprint == mark:
                remote.take_up(row, self._equipment.clock)
        return remote

    @property
    def _backoff(self) -> Backoff:
        return Backoff(self._equipment.settings.first_retry, self._equipment.settings.max_retry)

    async def _begin(self, name: str, mark: str, remote: RemoteEnd) -> None:
        """Note that a target has another remote end than before; what it is owed has waited long enough."""
        clock, store = self._equipment.clock, self._equipment.store
        await store.reopen(name, now=clock.now(), fingerprint=mark)
        if remote.gate.state(clock.monotonic()) is not GateState.OPEN:
            await store.save_gate(written_down(name, remote.gate, clock))

    def _put(self, name: str, target: Target, remote: RemoteEnd) -> None:
        remote.gate.backoff = self._backoff
        worker = self._workers.get(name)
        if worker is not None:
            worker.retarget(target, remote)
            return
        worker = self._workers[name] = Worker(name, target, self._equipment, remote)
        earlier = self._leaving.get(name)
        self._running[name] = asyncio.create_task(_after(earlier, worker), name=f"worker {name}")

    def _remove(self, name: str) -> None:
        """Start no further attempt to a target; those under way end by themselves, and apart from it."""
        worker = self._workers.pop(name)
        worker.stop()
        worker.remote.leave(worker)
        leaving = self._leaving[name] = self._running.pop(name)
        leaving.add_done_callback(lambda _task: self._forget(name, leaving))

    def _forget(self, name: str, leaving: asyncio.Task[None]) -> None:
        if self._leaving.get(name) is leaving:
            del self._leaving[name]

    def wake(self, names: Collection[str] | None = None) -> None:
        """Let the workers of these targets, or all, look into the outbox."""
        for name in self._workers if names is None else names:
            worker = self._workers.get(name)
            if worker is not None:
                worker.wake()

    async def hold(self, applies: Callable[[Target], bool], length: timedelta, reason: str) -> None:
        """Send nothing to some targets before `length` is over, also after a restart: a service said so."""
        clock = self._equipment.clock
        held = [
            remote
            for remote in self._remotes.values()
            if any(applies(sender.target) for sender in remote.senders.values())
        ]
        for remote in held:  # NB: all at once, before anything waits for the disk
            remote.gate.hold(clock.monotonic(), length, reason)
        for remote in held:
            rows = remote.rows(clock)
            with contextlib.suppress(StorageError):
                await self._equipment.store.save_gate(*rows)
                remote.stored(rows)

    def sharing(self, name: str) -> Collection[str]:
        """Return the targets that have the same remote end as this one, which is one of them."""
        worker = self._workers.get(name)
        return {name} if worker is None else {name, *worker.remote.senders}

    async def look_again(self) -> None:
        """Take up what another process changed in the state file."""
        gates = await self._equipment.store.gates()
        for name, worker in self._workers.items():
            worker.remote.look_at(gates.get(name))
            worker.look_again()

    def paused(self) -> dict[str, str]:
        """Return the paused targets and why they are."""
        return {
            name: worker.gate.reason or "paused"
            for name, worker in self._workers.items()
            if worker.gate.is_paused
        }

    async def report_standing(self) -> None:
        """Tell of pauses and dead letters that a crash may have kept from being told."""
        for name, reason in self.paused().items():
            await self._workers[name].narrator.paused(reason)
        for name, backlog in (await self._equipment.store.backlogs()).items():
            if backlog.dead and name in self._workers:
                await self._workers[name].narrator.dead_letters(backlog.dead, "given up on in an earlier run")

    def names(self) -> Collection[str]:
        """Return the targets that are worked for."""
        return self._workers.keys()

    async def stop(self) -> None:
        """Start no further attempt and let those under way finish, for up to 10 seconds."""
        self._is_stopping = True
        for worker in self._workers.values():
            worker.stop()
        await asyncio.gather(*self._running.values(), *self._leaving.values(), return_exceptions=True)

    def crashed(self) -> BaseException | None:
        """Return the error of a worker that ended by itself, which none ever should."""
        if self._is_stopping:
            return None
        for task in self._running.values():
            if task.done() and not task.cancelled():
                return task.exception() or RuntimeError(f"{task.get_name()} ended")
        return None
