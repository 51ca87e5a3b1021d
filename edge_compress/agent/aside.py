"""Calls that may wait, made beside the event loop, each in a thread of its own that neither it nor the agent's end waits for."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def aside(call: Callable[[], T], within: float) -> T:
    """What ``call`` returns or raises. Raises TimeoutError after that many seconds, and lets it end by itself."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(how: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the agent has ended
            loop.call_soon_threadsafe(lambda: None if answer.done() else how())

    def work() -> None:
        try:
            result = call()
        except Exception as error:
            failure = error
            settle(lambda: answer.set_exception(failure))
        else:
            settle(lambda: answer.set_result(result))

    threading.Thread(target=work, daemon=True).start()
    async with asyncio.timeout(within):
        return await answer
