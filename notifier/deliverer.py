"""The outbox emptied: a worker for each target, all in parallel, none slowing another.

Never reads a track and never imports what does.
"""

import asyncio
import contextlib
from collections.abc import Collection, Mapping
from datetime import timedelta

from notifier.aftermath import Equipment
from notifier.delivery import Backoff, Notice
from notifier.gate import Gate, Pace
from notifier.gatebook import fingerprint, limit_gate, service_gate, take_up, written_down
from notifier.remote import RemoteEnd
from notifier.store import StorageError, StoredGate
from notifier.targets import Target
from notifier.worker import Worker


def _service_name(target: Target) -> str:
    return service_gate(target.type_name)


class Deliverer:
    """The workers of all targets."""

    def __init__(self, equipment: Equipment) -> None:
        self._equipment = equipment
        equipment.hold = self.hold
        self._workers: dict[str, Worker] = {}
        self._remotes: dict[str, RemoteEnd] = {}
        """By the mark of each remote end, so that targets with the same URL share one gate."""
        self._limits: dict[str, Gate] = {}
        """What services count our requests by, and whole services, by the names of their rows."""
        self._is_stopping = False
        self._running: dict[str, asyncio.Task[None]] = {}
        self._leaving: dict[Worker, asyncio.Task[None]] = {}
        self._salt = ""
        self._has_begun = False
        """Whether this is no longer the start, at which the engine tells of pauses."""

    async def apply(self, targets: Mapping[str, Target]) -> None:
        """Work for these targets from now on; a target whose URL has changed is asked again at once.

        Raises StorageError.
        """
        self._salt = await self._equipment.store.salt()
        rows = await self._equipment.store.gates()
        self._keep_limits(targets.values(), rows)
        for name in [name for name in self._workers if name not in targets]:
            self._remove(name)
        for name, target in targets.items():
            await self._put(name, target, rows)
        self._remotes = {mark: remote for mark, remote in self._remotes.items() if remote.is_in_use}
        self._forget_limits(self._equipment.clock.monotonic())
        self._has_begun = True

    async def _put(self, name: str, target: Target, rows: Mapping[str, StoredGate]) -> None:
        """Let a worker send what the target is owed, through the gate of its remote end."""
        remote, row = self._remote_of(target, rows), rows.get(name)
        limits = {name: self._limits[name] for name in (self._limit_name(target), _service_name(target))}
        is_new = row is None or row.fingerprint != remote.mark
        worker = self._workers.get(name)
        is_told = worker is not None and not is_new
        if worker is None:
            worker = self._workers[name] = Worker(name, target, self._equipment, remote)
            worker.retarget(target, remote, limits)
            earlier = [task for other, task in self._leaving.items() if other.name == name]
            self._running[name] = asyncio.create_task(worker.run(after=earlier), name=f"worker {name}")
        else:
            worker.retarget(target, remote, limits)
        if is_new:
            await self._begin(name, remote)
        if remote.gate.is_paused and not is_told and self._has_begun:
            await worker.narrator.paused(remote.gate.reason or "paused")

    def _remote_of(self, target: Target, rows: Mapping[str, StoredGate]) -> RemoteEnd:
        """Return a target's remote end, as it stands or as an earlier run left it."""
        mark = fingerprint(target.remote_end, self._salt)
        remote = self._remotes.get(mark)
        if remote is None:
            remote = RemoteEnd(mark, Gate(backoff=self._backoff, pace=None, rng=self._equipment.rng))
            remote.take_up(rows.values(), self._equipment.clock)
            self._remotes[mark] = remote
        remote.gate.backoff = self._backoff
        return remote

    def _keep_limits(self, targets: Collection[Target], rows: Mapping[str, StoredGate]) -> None:
        """Have a gate for each service and for whatever it counts by, with the pace of the most careful."""
        paces: dict[str, list[Pace]] = {}
        for target in targets:
            counted_by = self._limit_name(target)
            if target.pace is not None:
                paces.setdefault(counted_by, []).append(target.pace)
            for name in (counted_by, _service_name(target)):
                if name not in self._limits:
                    limit = Gate(backoff=self._backoff, pace=None, rng=self._equipment.rng)
                    take_up(limit, rows.get(name), self._equipment.clock)
                    self._limits[name] = limit
        for name, limit in self._limits.items():
            limit.repace(
                min(
                    paces.get(name, ()),
                    key=lambda pace: pace.count / pace.period.total_seconds(),
                    default=None,
                )
            )

    def _forget_limits(self, now: float) -> None:
        """Drop the gates of services and URLs that nobody uses any more and that hold nobody."""
        used = {name for remote in self._remotes.values() for name in remote.limits}
        self._limits = {
            name: limit for name, limit in self._limits.items() if name in used or not limit.is_at_rest(now)
        }

    def _limit_name(self, target: Target) -> str:
        return limit_gate(target.limiter, self._salt)

    @property
    def _backoff(self) -> Backoff:
        return Backoff(self._equipment.settings.first_retry, self._equipment.settings.max_retry)

    async def _begin(self, name: str, remote: RemoteEnd) -> None:
        """Note that a target has another remote end than before, which may be closed already."""
        row = written_down(name, remote.gate, self._equipment.clock, mark=remote.mark)
        await self._equipment.store.begin(row)
        remote.stored(row)

    def _remove(self, name: str) -> None:
        """Start no further attempt to a target; those under way end by themselves, and apart from it."""
        worker = self._workers.pop(name)
        worker.leave()
        leaving = self._leaving[worker] = self._running.pop(name)
        leaving.add_done_callback(lambda _task: self._has_left(worker))

    def _has_left(self, worker: Worker) -> None:
        self._leaving.pop(worker, None)
        if worker.name not in {*self._workers, *(other.name for other in self._leaving)}:
            self._equipment.metrics.forget_target(worker.name)

    def wake(self, names: Collection[str] | None = None) -> None:
        """Let the workers of these targets, or all, look into the outbox."""
        for name in self._workers if names is None else names:
            worker = self._workers.get(name)
            if worker is not None:
                worker.wake()

    async def hold(self, target: Target, length: timedelta, reason: str, *, is_global: bool) -> None:
        """Send nothing before `length` is over to all that the service counts together with a target.

        Or to all targets of its type. Also after a restart, and to those that come to the watchlist later.
        """
        clock, store = self._equipment.clock, self._equipment.store
        name = _service_name(target) if is_global else self._limit_name(target)
        held = [remote for remote in self._remotes.values() if name in remote.limits]
        for gate in [self._limits[name], *(remote.gate for remote in held)]:
            gate.hold(
                clock.monotonic(), length, reason
            )  # NB: all at once, before anything waits for the disk
        with contextlib.suppress(StorageError):
            await store.save_gate(written_down(name, self._limits[name], clock))
            for remote in held:
                row = remote.row(clock)
                if row is not None:
                    await store.save_end(row)
                    remote.stored(row)

    async def write_down(self) -> None:
        """Write anew how all gates stand that are closed: the wall clock that they were told by has leapt.

        Raises StorageError.
        """
        clock, store = self._equipment.clock, self._equipment.store
        for name, limit in [*self._limits.items()]:
            if limit.closed_for(clock.monotonic()) > 0:
                await store.save_gate(written_down(name, limit, clock))
        for remote in [*self._remotes.values()]:
            row = remote.row(clock)
            if row is not None:
                await store.save_end(row)
                remote.stored(row)

    def proclaim(self, notice: Notice | None) -> None:
        """Tell of something that cannot be written down for now; None when it is written down."""
        self._equipment.notice = notice
        if notice is not None:
            self.wake(notice.targets)

    def sharing(self, name: str) -> Collection[str]:
        """Return the targets that have the same remote end as this one, which is one of them."""
        worker = self._workers.get(name)
        return {name} if worker is None else {name, *worker.remote.senders}

    def under_way(self) -> frozenset[int]:
        """Return all deliveries that are being sent, also those to targets that have left the watchlist."""
        workers = (*self._workers.values(), *self._leaving)
        return frozenset(one for worker in workers for one in worker.under_way())

    async def look_again(self) -> None:
        """Take up what another process changed in the state file."""
        gates = await self._equipment.store.gates()
        for name, worker in self._workers.items():
            worker.remote.look_at(gates.get(name))
            worker.take_up()

    def paused(self) -> dict[str, str]:
        """Return the paused targets and why they are."""
        return {
            name: worker.gate.reason or "paused"
            for name, worker in self._workers.items()
            if worker.gate.is_paused
        }

    def names(self) -> Collection[str]:
        """Return the targets that are worked for."""
        return self._workers.keys()

    async def stop(self) -> None:
        """Start no further attempt and let those under way finish, for up to 10 seconds."""
        self._is_stopping = True
        for worker in self._workers.values():
            worker.stop()
        for worker in self._leaving:
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
