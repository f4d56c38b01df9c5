"""Micro-batches side by side on a CPU, each by a thread of its own.

Threads that share one wait for each other after every operation, and each finds in its cache what another has
written.
"""

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, Deque, Iterator, Sequence, TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """What work gives for each item, in their order.

    As many items at a time as torch has threads (`torch.set_num_threads`), each by one of them. Those that are too few
    for that, at the end or all of them, go one after another, by all threads. At most twice as many are begun as have
    been asked for.

    work (Callable): May run in another thread, where it has to say itself that it needs no gradients.
    """
    n_threads = torch.get_num_threads()
    together = len(items) - len(items) % n_threads if n_threads > 1 else 0
    n_done = 0
    for result in _together(work, items[:together], n_threads) if together else ():
        yield result
        n_done += 1
    yield from map(work, items[n_done:])


def _together(work: Callable[[T], R], items: Sequence[T], n_threads: int) -> Iterator[R]:
    """Less than all where no thread can be started: at the end of a program, or where the system has no more."""
    begun: Deque[Future[R]] = deque()
    # threads that help this one would wait for more work for a while, and in that take the time of those that work
    _use_one_thread(n_threads)
    try:
        with ThreadPoolExecutor(n_threads, "spacy_crf_ner.embedding", _use_one_thread, (n_threads,)) as threads:
            try:
                for item in items:
                    try:
                        begun.append(threads.submit(work, item))
                    except RuntimeError:
                        break
                    if len(begun) == 2 * n_threads:
                        yield begun.popleft().result()
                while begun:
                    yield begun.popleft().result()
            finally:
                for future in begun:
                    future.cancel()
    finally:
        torch.set_num_threads(n_threads)


def _use_one_thread(n_elsewhere: int) -> None:
    """Have torch use one thread in this one, and as many as before in those to come."""
    # torch gives a thread the number that was set last, when it first asks
    torch.get_num_threads()
    torch.set_num_threads(1)
    # so it is set once more, by one that ends at once
    other = threading.Thread(target=torch.set_num_threads, args=(n_elsewhere,))
    other.start()
    other.join()
