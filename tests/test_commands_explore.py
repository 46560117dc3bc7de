"""`explore`: one page from this machine to this machine, until Ctrl-C."""

import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import webbrowser
from contextlib import contextmanager
from importlib.resources import files
from threading import Event

import pytest

from numpy_norms.cli import main
from numpy_norms.commands import explore

PAGE = files("numpy_norms").joinpath("explorer.html").read_bytes()


@contextmanager
def serving():
    """The command in a process of its own, and the address that it prints."""
    words = [sys.executable, "-m", "numpy_norms", "explore", "--no-browser"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, re.search(r"http://\S+", process.stdout.readline())[0]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def address():
    with serving() as (_, address):
        yield address


def test_the_page_is_served_and_nothing_else(address):
    for path in ("", "index.html", "?theme=dark"):
        with urllib.request.urlopen(address + path, timeout=10) as answer:
            assert answer.read() == PAGE
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    for path in ("cli.py", "../cli.py", "%2e%2e/pyproject.toml", "explorer.html/"):
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            urllib.request.urlopen(address + path, timeout=10)
        refused.value.close()


def test_it_can_be_reached_from_this_machine_alone(address):
    assert address.startswith("http://127.0.0.1:")


def test_an_interrupt_ends_it_in_peace():
    # Of what a shell has started in the background interrupts are ignored, and so of its children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with serving() as (process, _):
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=10) == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_one_takes_another_port(address):
    with explore._server(None) as server:
        assert not address.endswith(f":{server.server_port}/")


def test_a_port_that_is_taken_is_one_line(capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert main(["explore", "--no-browser", "--port", str(other.getsockname()[1])]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "leave --port out" in err


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_what_is_no_port_is_refused(port, capsys):
    with pytest.raises(SystemExit):
        main(["explore", f"--port={port}"])
    assert "is not a port" in capsys.readouterr().err


def test_the_browser_is_sent_to_the_page(monkeypatch):
    opened, seen = Event(), []
    monkeypatch.setattr(webbrowser, "open", lambda address: (seen.append(address), opened.set()))

    def until_the_browser_came(server):
        assert opened.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr(explore.ThreadingHTTPServer, "serve_forever", until_the_browser_came)
    assert main(["explore", "--port", "0"]) == 0
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", seen[0])
