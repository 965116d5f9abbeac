"""Waiting for something that a signal, or the end of a child, may overtake."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from lmrun import log
from lmrun.deploy.process import Child
from lmrun.errors import StageError

logger = log.get(__name__)

_T = TypeVar("_T")


class StoppedError(Exception):
    """A signal asked for the end while something was under way."""


class Stop:
    """The wish to stop. A second signal makes it urgent."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.now = asyncio.Event()

    def listen(self) -> None:
        """Take SIGINT and SIGTERM, and SIGHUP unless the process was told to ignore it."""
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        for number in numbers:
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: signal.Signals) -> None:
        if self.asked.is_set():
            logger.warning("%s again: stopping now", number.name)
            self.now.set()
            return
        logger.info("%s: stopping; the same again stops at once", number.name)
        self.asked.set()

    async def or_result(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The result of `work`, or `StoppedError` if a signal comes first."""
        task, asked = asyncio.create_task(work), asyncio.create_task(self.asked.wait())
        try:
            await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise StoppedError
            return task.result()
        finally:
            await cancel(task, asked)

    async def or_end_of(self, work: Coroutine[Any, Any, _T], *children: Child) -> _T:
        """The result of `work`; `StageError` if a child ends, `StoppedError` if a signal comes
        first."""
        task = asyncio.create_task(work)
        ends = {asyncio.create_task(child.wait()): child for child in children}
        try:
            await self.or_result(_first_of(task, *ends))
            if not task.done():
                ended = next(child for end, child in ends.items() if end.done())
                raise StageError(f"launch: {ended.explain_end()}.")
            return task.result()
        finally:
            await cancel(task, *ends)


async def _first_of(*tasks: asyncio.Task[Any]) -> None:
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what is not done, and see it end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def in_daemon_thread(work: Callable[[], _T]) -> _T:
    """The result of blocking work, on a thread that an ending process does not wait for."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, problem = None, None
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - raised again by whoever awaits
            problem = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, problem)

    threading.Thread(target=run, name="blocking-work", daemon=True).start()
    return await future
