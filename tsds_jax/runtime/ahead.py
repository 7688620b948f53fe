"""Work that is begun before the work before it has been looked at."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import repeat
from typing import Any, TypeVar

Item = TypeVar("Item")


def side_by_side(calls: Iterable[Callable[[], Item]], threads: int) -> Iterator[Item]:
    """What the calls return, in their order; so many are made at once, and one more waits for a thread.

    What raises there raises here, in its turn. Calls that have not begun when nobody looks any more never do.
    """
    pool, begun = ThreadPoolExecutor(threads), deque[Future[Item]]()
    try:
        for call in calls:
            begun.append(pool.submit(call))
            if len(begun) > threads + 1:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


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
