"""How many threads work, and the handing out of work to them."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")
R = TypeVar("R")

VARIABLE = "NUMPY_NORMS_NUM_THREADS"


class _State:
    """The only state of the package: the number of threads and the threads themselves."""

    lock = threading.Lock()
    chosen: int | None = None
    pool: ThreadPoolExecutor | None = None
    pool_size = 0


def get_num_threads() -> int:
    """Return the number of threads that large arrays are worked on with.

    Examples
    --------
    >>> import numpy_norms as nn
    >>> nn.get_num_threads() >= 1
    True
    """
    if _State.chosen is None:
        _State.chosen = _from_environment()
    return _State.chosen


def set_num_threads(n: int) -> None:
    """Set the number of threads that large arrays are worked on with.

    Results do not depend on it, to the last bit. The default is the environment variable
    ``NUMPY_NORMS_NUM_THREADS`` or, where that is not set, the number of cores available.

    Parameters
    ----------
    n : int
        At least 1.

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If `n` is less than 1.

    Examples
    --------
    >>> import numpy_norms as nn
    >>> before = nn.get_num_threads()
    >>> nn.set_num_threads(1)
    >>> nn.get_num_threads()
    1
    >>> nn.set_num_threads(before)
    """
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"n is {n!r}, but a number of threads is an integer; pass 1, 2, ...")
    if n < 1:
        raise ValueError(f"n is {n}, but at least one thread must work; pass 1 or more")
    _State.chosen = int(n)


def _from_environment() -> int:
    text = os.environ.get(VARIABLE)
    if text is None:
        affinity = getattr(os, "sched_getaffinity", None)
        return len(affinity(0)) if affinity else os.cpu_count() or 1
    if not text.strip().isdecimal() or int(text) < 1:
        raise ValueError(
            f"{VARIABLE} is {text!r}, but a whole number of at least 1 was expected; "
            "correct or unset the variable"
        )
    return int(text)


def in_threads(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return ``[work(item) for item in items]``, several items at a time.

    The caller's thread works too. An exception of `work` comes out once no thread works any more.
    """
    helpers = min(get_num_threads(), len(items)) - 1
    if helpers < 1:
        return [work(item) for item in items]
    results: list[Any] = [None] * len(items)
    waiting = deque(range(len(items)))

    def take_turns() -> None:
        while True:
            try:
                i = waiting.popleft()
            except IndexError:
                return
            results[i] = work(items[i])

    pool = _pool(helpers)
    futures = [pool.submit(take_turns) for _ in range(helpers)]
    try:
        take_turns()
    finally:
        errors = [future.exception() for future in futures if not future.cancel()]
    for error in errors:
        if error is not None:
            raise error
    return results


def _pool(size: int) -> ThreadPoolExecutor:
    with _State.lock:
        if _State.pool is None or _State.pool_size < size:
            from concurrent.futures import ThreadPoolExecutor  # 3 ms that small arrays never pay

            if _State.pool is not None:
                _State.pool.shutdown(wait=False)
            _State.pool = ThreadPoolExecutor(size, thread_name_prefix="numpy_norms")
            _State.pool_size = size
        return _State.pool


def _forget_pool() -> None:
    _State.lock = threading.Lock()
    _State.pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
