"""How many threads work, and the handing out of work to them.

An interrupt can strike the caller between any two steps, a signal handler or a finalizer can call
again there, and a child process can begin there. So no caller takes a lock that it would have to
give back. A `_Helper` alone says what it works on, since no interrupt strikes its thread; a caller
only offers it a `_Call`, and returns once no helper is at that call.
"""

from __future__ import annotations

import os
from _thread import allocate_lock, start_new_thread
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, compress, repeat, starmap
from time import sleep
from typing import Any, TypeVar

T = TypeVar("T")

VARIABLE = "NUMPY_NORMS_NUM_THREADS"

# The only state of the package.
_chosen: int | None = None
_helpers: list[_Helper] = []


def get_num_threads() -> int:
    """Return the number of threads that large arrays are worked on with.

    Examples
    --------
    >>> import numpy_norms as nn
    >>> nn.get_num_threads() >= 1
    True
    """
    global _chosen
    if _chosen is None:
        _chosen = _from_environment()
    return _chosen


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
    from ..checks import integer, shown  # which knows of what imports this

    global _chosen
    number = integer("n", n, 2)
    if number < 1:
        raise ValueError(f"n is {shown(n)}, but at least one thread must work; pass 1 or more")
    _chosen = number


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


def in_threads(visit: Callable[[T], object], items: Sequence[T], *, alone: bool = False) -> None:
    """Call ``visit(item)`` for every item, several at a time unless `alone`; the caller works too.

    Helpers that others keep busy, or threads that cannot be had, are done without. An exception
    comes out once no helper works any more: an interrupt, or else the first that was raised.
    """
    number = 1 if alone or len(items) < 2 else min(get_num_threads(), len(items))
    if number < 2:
        for item in items:
            visit(item)
        return
    call = _Call(visit, items)
    try:
        call.ask(_hire(number - 1))
        call.work()
        call.wait()
    finally:
        deque(call.end, maxlen=0)  # one step of Python, so no interrupt can come between
    if call.errors:
        try:
            raise min(call.errors, key=lambda error: isinstance(error, Exception))
        finally:
            call.errors.clear()  # else the traceback, which holds the arrays, would hold itself


class _Call:
    """What a caller and its helpers share."""

    __slots__ = ("end", "errors", "helpers", "items", "left", "visit")

    def __init__(self, visit: Callable[[Any], object], items: Sequence[Any]):
        self.visit = visit
        self.items = deque(items)
        self.errors: list[BaseException] = []
        self.helpers: set[_Helper] = set()  # at work now; each adds and takes away itself
        self.left = allocate_lock()
        # Ends once no item and no helper is left. A wait is no use here: an interrupt would end it.
        busy = compress(repeat(()), iter(self.helpers.__len__, 0))
        self.end = chain(starmap(self.items.clear, [()]), starmap(_pause, busy))

    def ask(self, helpers: list[_Helper]) -> None:
        """Offer the call to helpers."""
        for helper in helpers:
            helper.offers.append(self)
            _wake(helper.asked)

    def work(self) -> None:
        """Take items until none is left."""
        try:
            while self.items:
                try:
                    item = self.items.popleft()
                except IndexError:  # another thread was faster
                    return
                self.visit(item)
        except BaseException as error:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Have nothing more begun."""
        self.errors.append(error)
        self.items.clear()

    def wait(self) -> None:
        """Return once no helper works; hold no arrays any longer, since an offer may live on."""
        while self.helpers:
            self.left.acquire()
        del self.visit


class _Helper:
    """A thread that works on the calls which it is offered, for as long as the process lives."""

    __slots__ = ("asked", "call", "offers")

    def __init__(self) -> None:
        self.offers: deque[_Call] = deque(maxlen=8)  # while it is busy, the latest
        self.asked = allocate_lock()
        self.call: _Call | None = None

    def serve(self) -> None:
        """Work; the threads of a parent process do not live on in its child."""
        while self in _helpers:
            self.asked.acquire()
            while self.offers:
                self.call = call = self.offers.popleft()
                call.helpers.add(self)
                call.work()
                call.helpers.discard(self)
                _wake(call.left)
                del call
                self.call = None


# Lets other threads run for a moment; a longer sleep would listen to signals.
_pause: Callable[[], None] = getattr(os, "sched_yield", partial(sleep, 0))


def _wake(lock: Any) -> None:
    """Let go whoever waits for the lock, or else who comes next."""
    try:
        lock.release()
    except RuntimeError:  # it is free already
        return


def _hire(number: int) -> list[_Helper]:
    """So many helpers, or as many as can be had."""
    while len(_helpers) < number:
        helper = _Helper()
        try:
            _helpers.append(helper)
            start_new_thread(helper.serve, ())
        except BaseException as error:
            if helper in _helpers:
                _helpers.remove(helper)
            if not isinstance(error, RuntimeError):
                raise
            break  # at exit, or for want of memory
    return _helpers[:number]


def _in_child() -> None:
    """After a fork: forget the helpers, and have the calls that they were at raise."""
    for helper in _helpers:
        call = helper.call
        if call is not None and helper in call.helpers:
            call.fail(
                RuntimeError(
                    "the process was forked within this call, and the threads that worked on it "
                    "stayed with the parent; call again in the child"
                )
            )
            call.helpers.clear()
            _wake(call.left)
    _helpers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
