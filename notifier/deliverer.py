"""The outbox emptied: a worker for each target, all in parallel, none slowing another.

Never reads a track and never imports what does.
"""

import asyncio
from collections.abc import Collection, Mapping
from datetime import timedelta

from notifier.gatebook import fingerprint
from notifier.store import StoredGate
from notifier.targets import Target
from notifier.worker import Common, Worker


async def _after(earlier: asyncio.Task[None] | None, worker: Worker) -> None:
    """Run a worker once the earlier one of the same target has ended, lest both send the same."""
    if earlier is not None:
        await asyncio.wait([earlier])
    await worker.run()


class Deliverer:
    """The workers of all targets."""

    def __init__(self, common: Common) -> None:
        self._common = common
        common.hold_type = self.hold_type
        self._workers: dict[str, Worker] = {}
        self._is_stopping = False
        self._running: dict[str, asyncio.Task[None]] = {}
        self._leaving: dict[str, asyncio.Task[None]] = {}

    async def apply(self, targets: Mapping[str, Target]) -> None:
        """Work for these targets from now on; a target whose URL has changed is asked again at once.

        Raises StorageError.
        """
        salt = await self._common.store.salt()
        gates = await self._common.store.gates()
        for name in [name for name in self._workers if name not in targets]:
            self._remove(name)
        for name, target in targets.items():
            stored, mark = gates.get(name), fingerprint(target.url.reveal(), salt)
            if stored is None or stored.fingerprint != mark:
                now = self._common.clock.now()
                await self._common.store.reopen(name, now=now, fingerprint=mark)
                stored = None
            self._put(name, target, stored)

    def _put(self, name: str, target: Target, stored: StoredGate | None) -> None:
        worker = self._workers.get(name)
        if worker is not None:
            if stored is None:
                worker.reopen()
            worker.retarget(target, self._common.settings)
            return
        worker = self._workers[name] = Worker(name, target, self._common, stored)
        earlier = self._leaving.get(name)
        self._running[name] = asyncio.create_task(_after(earlier, worker), name=f"worker {name}")

    def _remove(self, name: str) -> None:
        """Start no further attempt to a target; those under way end by themselves, and apart from it."""
        self._workers.pop(name).stop()
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

    async def hold_type(self, type_name: str, length: timedelta, reason: str) -> None:
        """Let every target of a type wait, because the service said so to one of them."""
        for worker in [*self._workers.values()]:
            if worker.target.type_name == type_name:
                await worker.hold(length, reason)

    async def look_again(self) -> None:
        """Take up what another process changed in the state file."""
        gates = await self._common.store.gates()
        for name, worker in self._workers.items():
            worker.look_at(gates.get(name))

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
        for name, backlog in (await self._common.store.backlogs()).items():
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
