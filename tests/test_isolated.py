"""Somebody's code in a process of its own: whatever it does, a line says what happened."""

import os
import sys
import time

import pytest

from numpy_norms.commands import isolated

posix = pytest.mark.skipif(os.name != "posix", reason="signals and process groups")
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory")


def run(task, **limits):
    return isolated.run(f"isolated_tasks:{task}", b"\0request", **limits)


def test_what_is_sent_comes_back_as_it_is():
    found = run("send_request")
    assert found.sent == (b"\0request", b"", bytes(range(256)) * 4000)
    assert (found.happened, found.printed, found.details) == ("", "", "")


def test_what_is_printed_is_kept_apart():
    assert run("print_twice").printed == "to stdout ½\nto stderr\nfrom C\ufffd\n"


@pytest.mark.parametrize(
    ("task", "happened"),
    [
        ("exit_zero", "raised SystemExit: 0"),
        ("leave_zero", "ended its process with exit status 0"),
        pytest.param("crash", "was ended by SIGSEGV: a crash", marks=posix),
        pytest.param("kill", "was ended by SIGKILL: out of memory, perhaps", marks=posix),
        ("raise_text", "raised ValueError: one?[31m?"),
        ("ask", "raised EOFError: EOF when reading a line"),
        ("remove_from_numpy", "changed NumPy: numpy.linalg.norm was replaced"),
        ("break_numpy", "changed NumPy: numpy.asarray was replaced"),
    ],
)
def test_every_end_is_told(task, happened):
    found = run(task)
    assert found.happened == happened
    if task in ("exit_zero", "leave_zero", "crash", "remove_from_numpy"):
        assert found.sent == (b"before",)
    raised = happened.startswith("raised") or task == "break_numpy"
    assert found.details.startswith("Traceback") == raised


def test_an_exception_whose_text_raises_is_told_by_its_name():
    class Speechless(BaseException):
        def __str__(self):
            raise RuntimeError

    assert isolated.one_line(Speechless()) == "Speechless"


def test_deep_recursion_is_told():
    happened = run("recurse").happened
    assert happened.startswith(("raised RecursionError", "was ended by SIGSEGV"))


def test_files_that_are_closed_are_told():
    assert run("close_files").happened.startswith("ended its process with exit status")


@pytest.mark.parametrize("task", ["loop_deaf", pytest.param("stop", marks=posix)])
def test_what_does_not_end_is_ended(task):
    start = time.monotonic()
    found = run(task, timeout=2.5)
    assert found.happened == "took longer than 2.5 s"
    assert time.monotonic() - start < 7
    assert found.sent == (b"before",)


def test_output_without_end_is_ended_and_its_beginning_kept():
    found = run("write_much_in_c", printed=1 << 20)
    assert found.happened == "printed more than 1 MiB"
    assert 1 << 20 <= len(found.printed) <= (1 << 20) + 1


def test_more_than_is_taken_back_is_told():
    found = run("send_much", sent=1_000_000)
    assert found.happened == "returned more than 1000000 bytes"
    assert found.sent == (b"z" * 100_000,) * 9


@linux
def test_memory_is_limited():
    assert "MemoryError" in run("take_memory", memory=1 << 30).happened


def test_what_numpy_does_not_mind_is_no_change():
    found = run("add_to_numpy")
    assert (found.happened, found.sent) == ("", (b"after",))


@pytest.mark.parametrize(
    "task",
    [
        "leave_threads",
        "leave_processes",
        pytest.param("leave_a_session", marks=posix),
        pytest.param("fork", marks=posix),
    ],
)
def test_what_is_left_running_is_not_waited_for(task):
    start = time.monotonic()
    found = run(task)
    assert (found.happened, found.sent) == ("", (b"after",))
    assert time.monotonic() - start < 7


def test_a_task_that_is_not_there_is_told():
    assert run("nothing").happened == "ended its process with exit status 1"
