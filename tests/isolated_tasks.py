"""Tasks for the tests of `isolated.run`: each would end, hold or change its caller."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import numpy as np


def send_request(request, send):
    send(request)
    send(b"")
    send(bytes(range(256)) * 4000)


def exit_zero(request, send):
    send(b"before")
    sys.exit(0)


def leave_zero(request, send):
    send(b"before")
    os._exit(0)


def loop_deaf(request, send):
    for number in signal.valid_signals():
        with suppress(OSError):  # two cannot be ignored
            signal.signal(number, signal.SIG_IGN)
    send(b"before")
    while True:
        time.sleep(1)


def stop(request, send):
    send(b"before")
    os.kill(os.getpid(), signal.SIGSTOP)


def crash(request, send):
    send(b"before")
    ctypes.string_at(0)


def kill(request, send):
    os.kill(os.getpid(), signal.SIGKILL)


def recurse(request, send):
    def f(x):
        return f([x])

    f(0)


def raise_text(request, send):
    raise ValueError("one\x1b[31m\udc80\ntwo")


def write_much_in_c(request, send):
    while True:
        os.write(1, b"y" * 100_000)


def send_much(request, send):
    while True:
        send(b"z" * 100_000)


def take_memory(request, send):
    send(b"before")
    kept = []
    while True:
        kept.append(np.empty(1 << 22))


def remove_from_numpy(request, send):
    send(b"before")
    del np.linalg.norm


def break_numpy(request, send):
    np.asarray = None
    np.asarray(1)


def add_to_numpy(request, send):
    np.float = float  # noqa: NPY001
    np.set_printoptions(precision=3)
    np.random.seed(0)  # noqa: NPY002
    send(b"after")


def leave_threads(request, send):
    threading.Thread(target=time.sleep, args=(60,)).start()
    send(b"after")


def leave_processes(request, send):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    send(b"after")


def leave_a_session(request, send):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(8)"], start_new_session=True)
    send(b"after")


def fork(request, send):
    os.fork()
    send(b"after")


def ask(request, send):
    input("your name? ")


def close_files(request, send):
    os.closerange(0, 100)


def print_twice(request, send):
    print("to stdout ½")
    print("to stderr", file=sys.stderr)
    os.write(1, b"from C\xff\n")
