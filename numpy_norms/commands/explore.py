"""``explore``: the explorer, in your browser, from this installation alone."""

from __future__ import annotations

import argparse
import threading
import webbrowser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files

from numpy_norms.cli import OK, UsageError
from numpy_norms.commands.table import print_text

HELP = "open the explorer in a browser: who shares statistics, and where a gradient goes"
HOST = "127.0.0.1"  # this machine alone
USUAL = 8765


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `explore`."""
    parser.add_argument(
        "--port", type=_port, help=f"port to listen on; {USUAL}, or any that is free"
    )
    parser.add_argument(
        "--no-browser", action="store_true", help="print the address and open nothing"
    )


def run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C, and return 0."""
    with _server(args.port) as server:
        address = f"http://{HOST}:{server.server_port}/"
        try:
            print_text(f"The explorer is at {address} (Ctrl-C ends it)", flush=True)
            if not args.no_browser:
                # A browser in the terminal keeps its caller waiting; the page must be served.
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
            server.serve_forever()
        except KeyboardInterrupt:
            print_text("")
    return OK


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, a whole number up to 65535")
    return int(text)


def _server(port: int | None) -> ThreadingHTTPServer:
    for attempt in (USUAL, 0) if port is None else (port,):
        try:
            return ThreadingHTTPServer((HOST, attempt), _Page)
        except OSError as error:
            reason = error.strerror or error
    raise UsageError(f"cannot listen on port {port}: {reason}; leave --port out to take a free one")


class _Page(BaseHTTPRequestHandler):
    """Answers with the one page, and knows nothing else."""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        if self.path.partition("?")[0] not in ("/", "/index.html"):
            self.send_error(404)
            return
        page = files("numpy_norms").joinpath("explorer.html").read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if body:
            self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of each request."""
