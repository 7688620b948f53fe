"""Work that is begun before the work before it has been looked at."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import repeat
from typing import Any, TypeVar

Item = TypeVar("Item")

# Calls that have begun, or wait for a thread, while one is looked at.
_LEAD = 2


def side_by_side(calls: Iterable[Callable[[], Item]], threads: int) -> Iterator[Item]:
    """What the calls return, in their order, two of them begun in advance on so many threads; what raises raises here.

    What has been begun is waited for when nobody looks any more, also what waits for a thread: of several processes
    that compute together all make the same calls, wherever each of them is.
    """
    begun: deque[Future[Item]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for call in calls:
            if len(begun) > _LEAD:
                yield begun.popleft().result()
            begun.append(pool.submit(call))
        while begun:
            yield begun.popleft().result()


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, up to two of them made in advance on a thread of their own; what raises there raises here."""
    end: Any = object()
    for item in side_by_side(repeat(partial(next, items, end)), 1):
        if item is end:
            return
        yield item


def one_behind(items: Iterable[Item]) -> Iterator[Item]:
    """The same items, each only when the next has been made: a device then never waits for a fetch."""
    held: list[Item] = []
    for item in items:
        held.append(item)
        if len(held) == 2:
            yield held.pop(0)
    yield from held
