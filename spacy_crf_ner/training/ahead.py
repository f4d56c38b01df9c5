"""Work on what comes next, in a thread, while a step runs."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Deque, Iterator, Tuple, TypeVar

T = TypeVar("T")


def made_ready(items: Iterator[T], prepare: Callable[[T], Any], depth: int) -> Iterator[T]:
    """Items as they come, each after it was made ready in a thread.

    items (Iterator[T]): Drawn in the thread that asks, so that random numbers are drawn where they always are.
    prepare (Callable): Makes an item ready; it draws no random numbers, and touches nothing that a step changes.
    depth (int): Items that are drawn before they are asked for; 0: none, and no thread.
    YIELDS (T): The items in their order. An error in `prepare` is raised here when its item is due.
    """
    if not depth:
        yield from items
        return
    waiting: Deque[Tuple[T, Future[Any]]] = deque()
    pool = ThreadPoolExecutor(1, thread_name_prefix="spacy_crf_ner.ahead")
    try:
        for item in items:
            waiting.append((item, pool.submit(prepare, item)))
            if len(waiting) > depth:
                yield _first(waiting)
        while waiting:
            yield _first(waiting)
    finally:
        # also when nobody asks for more, as at the end of a training
        pool.shutdown(cancel_futures=True)


def _first(waiting: Deque[Tuple[T, Future[Any]]]) -> T:
    item, ready = waiting.popleft()
    ready.result()
    return item
