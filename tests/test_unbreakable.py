"""Calls within calls, interrupts, forks, threads that end: each test in a process of its own."""

import atexit
import ctypes
import functools
import gc
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from threading import get_ident

import numpy as np

import numpy_norms
from numpy_norms.engine import threads
from numpy_norms.engine.threads import in_threads

HERE = os.path.dirname(__file__)
MAIN = threading.main_thread().ident


def own_process(needs=(os, "name"), prints=""):
    """Make a test of a function: a new process runs it and then ends, soon and without a word."""

    def decorate(program):
        name = program.__name__
        code = f"import test_unbreakable, time; test_unbreakable.{name}.__wrapped__()"

        @functools.wraps(program)
        def test():
            import pytest  # not in the new process, where it would take longer than most programs

            if not hasattr(*needs):
                pytest.skip(f"no {needs[1]} here")
            path = os.pathsep.join([HERE, *sys.path])
            done = subprocess.run(
                [sys.executable, "-Wignore", "-c", f"{code}; print(time.monotonic())"],
                env={**os.environ, "PYTHONPATH": path, threads.VARIABLE: "4"},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            ended = time.monotonic()
            assert not done.stderr, done.stderr
            assert done.returncode == 0
            last, *more = done.stdout.split()
            assert ended - float(last) < 5
            assert " ".join(more) == prints

        return test

    return decorate


@functools.cache
def data():
    """Arguments of a norm that several threads work on, and what it returns."""
    rng = np.random.default_rng(20150211)
    x, gamma, beta = (rng.standard_normal(n, np.float32) for n in ((1500, 521), 521, 521))
    arguments = (x + 3, gamma, beta)
    return arguments, numpy_norms.layer_norm_forward(*arguments)[0]


def is_right(rows=1500):
    """Whether a call, now and here, has the bits of one by itself; of the first rows alone."""
    (x, gamma, beta), y = data()
    return bool((numpy_norms.layer_norm_forward(x[:rows], gamma, beta)[0] == y[:rows]).all())


def meet(number=2):
    """Fail unless so many threads work at a time."""
    barrier = threading.Barrier(number)
    in_threads(lambda _: barrier.wait(10), range(number))


@own_process(needs=(signal, "setitimer"))
def test_a_call_in_a_signal_handler_changes_no_bit():
    within = []
    signal.signal(signal.SIGALRM, lambda *_: within.append(is_right(700)))
    data()
    while len(within) < 30:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-4, 3e-3))
        assert is_right()
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert all(within)


@own_process()
def test_a_call_in_a_finalizer_changes_no_bit():
    within = []

    class Dying:
        def __init__(self):
            self.itself = self

        def __del__(self):
            within.append(is_right(700))

    def collect_at(step):
        """Have the collector run as the main thread comes to a step: what it calls or leaves."""
        steps = itertools.count()

        def profile(*_):
            if next(steps) == step:
                sys.setprofile(None)
                gc.collect()

        Dying()
        sys.setprofile(profile)

    data()
    gc.disable()
    gc.freeze()
    for step in itertools.count(step=4):
        collect_at(step)
        assert is_right()
        if sys.getprofile():  # the call has not so many steps
            break
    sys.setprofile(None)
    assert len(within) > 20
    assert all(within)


@own_process()
def test_a_call_within_a_call_changes_no_bit():
    found = []
    data()
    in_threads(lambda _: found.append(is_right()), range(8))
    assert found == [True] * 8


@own_process(prints="True")
def test_a_call_after_the_main_thread_has_ended_is_right():
    def late():
        threading.main_thread().join()
        print(is_right())

    threading.Thread(target=late).start()


@own_process(prints="True")
def test_a_call_at_exit_is_right():
    atexit.register(lambda: print(is_right()))


@own_process(prints="True")
def test_a_call_in_a_finalizer_at_exit_is_right():
    class Late:
        def __del__(self):
            print(is_right())

    sys.modules["__main__"].late = Late()
    data()


@own_process()
def test_a_call_in_a_daemon_thread_is_right():
    found = []
    thread = threading.Thread(target=lambda: found.append(is_right()), daemon=True)
    thread.start()
    thread.join()
    assert found == [True]


@own_process()
def test_where_no_thread_can_be_started_the_caller_works_alone():
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    threads.start_new_thread, start = refuse, threads.start_new_thread
    assert is_right()
    threads.start_new_thread = start
    meet()


@own_process(needs=(os, "sched_getaffinity"))
def test_where_memory_for_threads_is_short_the_caller_works_alone():
    import resource

    threading.stack_size(1 << 40)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 39, 1 << 39))
    assert is_right()
    assert not threads._helpers


@own_process()
def test_callers_do_not_disturb_each_other_while_the_number_of_threads_changes():
    data()
    end = time.monotonic() + 0.5

    def change():
        for n in itertools.cycle((1, 2, 9, 3, 6, 2, 12)):
            numpy_norms.set_num_threads(n)
            time.sleep(1e-4)
            if time.monotonic() > end:
                return

    def use():
        while time.monotonic() < end:
            assert is_right()

    everyone = [threading.Thread(target=f) for f in (change, use, use, use)]
    for thread in everyone:
        thread.start()
    for thread in everyone:
        thread.join()


def interrupt(_, frame):
    """Raise KeyboardInterrupt if the main thread is within the package, not in the test itself.

    Nor here, where one would follow another until Python stops it, if they came fast enough.
    """
    while frame is not None and frame.f_code is not interrupt.__code__:
        if frame.f_globals["__name__"].startswith("numpy_norms"):
            raise KeyboardInterrupt
        frame = frame.f_back


class Failure(Exception):
    """What a visit raises."""


class Working:
    """Something to do, and which threads but the main one are doing it."""

    def __init__(self, seconds, fails=False):
        self.seconds, self.fails = seconds, fails
        self.helpers, self.done = set(), []

    def __call__(self, item):
        me = get_ident()
        if me != MAIN:
            self.helpers.add(me)
        time.sleep(self.seconds)
        self.helpers.discard(me)
        if me == MAIN and self.fails:
            raise Failure
        self.done.append(item)


def start_timer(n):
    """Interrupt at a random moment, and again every so often."""
    signal.signal(signal.SIGALRM, interrupt)
    again = random.uniform(2e-5, 2e-4) if n % 2 else random.uniform(1e-4, 3e-3)
    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-4, 3e-3), again)


def stop_timer():
    signal.setitimer(signal.ITIMER_REAL, 0)


@own_process(needs=(signal, "setitimer"))
def test_no_helper_works_when_an_interrupt_comes_out_and_none_holds_the_call():
    interrupted = []
    for n in range(600):
        start_timer(n)
        try:
            while True:
                work = Working(2e-4)
                in_threads(work, range(12))
                assert sorted(work.done) == [*range(12)]
        except KeyboardInterrupt:
            assert not work.helpers
            interrupted.append(weakref.ref(work))
        finally:
            stop_timer()
    del work
    gc.collect()
    end = time.monotonic() + 10  # helpers may have woken up for calls that were over
    while any(work() for work in interrupted):
        assert time.monotonic() < end
    meet(4)


@own_process(needs=(signal, "setitimer"))
def test_nothing_is_written_when_an_interrupt_has_come_out():
    arguments, y = data()
    out = np.empty_like(y)
    for n in range(100):
        start_timer(n)
        try:
            while True:
                numpy_norms.layer_norm_forward(*arguments, out=out)
                assert (out == y).all()
        except KeyboardInterrupt:
            out.fill(7)
        finally:
            stop_timer()
        time.sleep(2e-3)
        assert (out == 7).all()
    assert is_right()


class Strikes:
    """Several interrupts at once, as the main thread comes to a step of `in_threads`."""

    def __init__(self, number, step):
        self.signals = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)[:number]
        self.steps = step
        self.kill = ctypes.CDLL(None).kill  # os.kill would listen to the first before the second

    def trace(self, frame, event, _):
        if frame.f_code.co_filename != threads.__file__:
            return None
        frame.f_trace_opcodes = True
        self.steps -= event == "opcode"
        if self.steps == 0:
            self.steps = -1
            list(map(self.kill, [os.getpid()] * len(self.signals), self.signals))
        return self.trace


def struck(number, step, fails=False):
    """Whether a call has such a step. Interrupted there, it leaves no helper at work."""
    strikes, work = Strikes(number, step), Working(3e-4, fails)
    for s in strikes.signals:
        signal.signal(s, interrupt)
    sys._getframe().f_trace_opcodes = True  # Python 3.12 asks before it traces any
    try:
        sys.settrace(strikes.trace)
        in_threads(work, range(2))
    except (KeyboardInterrupt, Failure):
        pass
    finally:
        sys.settrace(None)
    assert not work.helpers
    return strikes.steps < 0


@own_process(needs=(signal, "SIGUSR1"))
def test_interrupts_at_any_step_leave_no_helper_at_work():
    numpy_norms.set_num_threads(2)
    for number, fails in itertools.product((1, 2, 3), (False, True)):
        step = 1
        while struck(number, step, fails):
            step += 1
        assert step > 100
        meet()


@own_process(needs=(signal, "SIGUSR1"))
def test_interrupts_at_any_step_of_a_first_call_lose_no_helper():
    numpy_norms.set_num_threads(2)
    for number, step in itertools.product((1, 2), range(1, 100)):
        threads._helpers.clear()
        assert struck(number, step)
        meet()


def status(pid):
    """The exit status of a child, which must end in time."""
    for _ in range(1000):
        ended, code = os.waitpid(pid, os.WNOHANG)
        if ended:
            return code
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError("the child hangs")


def fork(children):
    """Note the child, or in the child 0 if it can call and have threads of its own."""
    pid = os.fork()
    if pid == 0:
        meet()
        pid = 0 if is_right() else -1
    children.append(pid)


@own_process(needs=(os, "fork"))
def test_a_child_forked_within_a_call_can_call_and_goes_on_or_raises():
    children = []
    signal.signal(signal.SIGALRM, lambda *_: fork(children))
    data()
    while len(children) < 12:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-4, 3e-3))
        try:
            right = is_right()
        except RuntimeError:
            right = children[-1] == 0
        signal.setitimer(signal.ITIMER_REAL, 0)
        if children and children[-1] <= 0:
            os._exit(not right or children[-1])
        assert right
    assert not any(map(status, children))


@own_process(needs=(os, "fork"))
def test_a_child_that_lacks_the_helper_which_has_an_item_raises():
    children = []
    signal.signal(signal.SIGALRM, lambda *_: fork(children))
    data()

    def at_work(item):
        barrier.wait(10)
        if get_ident() == MAIN:
            fork(children)
        if children[-1:] != [0]:
            barrier.wait(10)

    def waiting(item):
        barrier.wait(10)
        if get_ident() != MAIN:
            before = len(children)
            time.sleep(0.05)
            signal.pthread_kill(MAIN, signal.SIGALRM)
            while len(children) == before:
                time.sleep(0.001)

    for visit in (at_work, waiting) * 5:
        barrier = threading.Barrier(2)
        try:
            in_threads(visit, range(2))
        except RuntimeError:
            os._exit(children[-1])
        assert children[-1] > 0
    assert not any(map(status, children))


@own_process(needs=(os, "fork"))
def test_a_child_forked_by_a_helper_can_call_and_ends():
    children = []
    data()

    def call(_):
        barrier.wait(10)
        if get_ident() != MAIN:
            fork(children)
            if children[-1] <= 0:
                os._exit(children[-1])

    def go_on(_):
        barrier.wait(10)
        if get_ident() != MAIN:
            children.append(os.fork())  # the child returns to where nobody waits for it

    for visit in (call, go_on) * 3:
        barrier = threading.Barrier(2)
        in_threads(visit, range(2))
    assert not any(map(status, children))
