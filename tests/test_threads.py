"""Handing out work: every item once, exceptions in order, memory that is given back."""

import gc
import threading
import time
import tracemalloc
import weakref
from threading import get_ident

import numpy as np
import pytest
from each import each

import numpy_norms
from numpy_norms.engine.threads import in_threads


@pytest.fixture(autouse=True)
def four_threads():
    """Have four threads, and the number that was there before afterwards."""
    before = numpy_norms.get_num_threads()
    numpy_norms.set_num_threads(4)
    yield
    numpy_norms.set_num_threads(before)


@each("number", [0, 1, 2, 3, 57, 1000])
def test_every_item_is_visited_once(number):
    visited = []
    in_threads(visited.append, range(number))
    assert sorted(visited) == [*range(number)]


def test_several_threads_work_and_the_caller_is_one_of_them():
    everyone, seen = threading.Barrier(4), []

    def visit(_):
        everyone.wait(10)
        seen.append(get_ident())

    in_threads(visit, range(4))
    assert len({*seen}) == 4
    assert get_ident() in seen


@each(("number", "alone"), [(4, True), (1, False)])
def test_the_caller_alone_goes_through_the_items_in_order(number, alone):
    numpy_norms.set_num_threads(number)
    seen = []
    in_threads(lambda item: seen.append((item, get_ident())), range(9), alone=alone)
    assert seen == [(item, get_ident()) for item in range(9)]


def test_once_an_item_fails_no_more_begin():
    begun, another = [], threading.Event()

    def visit(item):
        begun.append(item)
        if item == 0:
            another.wait(10)
            raise KeyError("the first")
        another.set()
        time.sleep(1e-3)

    with pytest.raises(KeyError, match="the first"):
        in_threads(visit, range(1000))
    assert len(begun) < 900


def fail_in_turn(errors):
    """What visits, each thread raising one of the errors in turn, and a list of those raised."""
    turns = [threading.Event() for _ in errors]
    everyone, raised = threading.Barrier(len(errors)), []

    def visit(item):
        everyone.wait(10)
        if item:
            turns[item - 1].wait(10)
        raised.append(errors[item])
        threading.Timer(0.1, turns[item].set).start()
        raise errors[item]

    return visit, raised


def test_the_first_exception_comes_out_after_the_last_was_raised():
    errors = [KeyError("first"), ValueError("second"), OSError("third"), TypeError("fourth")]
    visit, raised = fail_in_turn(errors)
    with pytest.raises(KeyError, match="first"):
        in_threads(visit, range(4))
    assert raised == errors


def test_an_interrupt_comes_out_before_any_other_exception():
    visit, _ = fail_in_turn([KeyError("first"), KeyboardInterrupt(), OSError(), TypeError()])
    with pytest.raises(KeyboardInterrupt):
        in_threads(visit, range(4))


@each("fails", [False, True])
def test_nothing_that_was_visited_is_held_afterwards(fails):
    class Visit:
        def __call__(self, item):
            if fails:
                raise ValueError

    visit = Visit()
    gone = weakref.ref(visit)
    gc.disable()
    try:
        try:
            in_threads(visit, range(50))
        except ValueError:
            assert fails
        del visit
        assert gone() is None
    finally:
        gc.enable()


def test_idle_threads_hold_no_memory():
    x, everyone = np.ones((1500, 768), np.float32), threading.Barrier(17)
    tracemalloc.start()

    def work():
        numpy_norms.layer_norm_forward(x)
        everyone.wait(10)
        everyone.wait(10)  # idle meanwhile

    users = [threading.Thread(target=work) for _ in range(16)]
    for user in users:
        user.start()
    everyone.wait(10)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    everyone.wait(10)
    for user in users:
        user.join()
    assert held < 2**20
