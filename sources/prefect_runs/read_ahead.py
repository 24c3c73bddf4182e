"""Several reads at the same time, their results in order, bounded in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def read_ahead(calls: Iterable[Callable[[], T]], at_once: int, waiting: int = 0) -> Generator[T, None, None]:
    """Results of `calls` in their order; at most `at_once` of them are under way, and so many more wait.

    `calls` is consumed lazily, in the caller's thread. The first error is raised where its result was due;
    later results are then dropped.
    """
    pending: deque[Future[T]] = deque()
    with ThreadPoolExecutor(at_once, thread_name_prefix="prefect-read") as pool:
        try:
            for call in calls:
                pending.append(pool.submit(call))
                if len(pending) >= at_once + waiting:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """`items` in lists of `size`, the last one shorter."""
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
