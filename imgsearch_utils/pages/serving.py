"""A page's server as a process: its port, its token, and its end, after which nothing is left."""

import contextlib
import html
import ipaddress
import json
import os
import re
import secrets
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import platformdirs
import uvicorn

from imgsearch_utils.pages.guard import Guard
from imgsearch_utils.pages.site import Site, build

LOOPBACK = {"127.0.0.1", "localhost", "[::1]"}
MOST_CONNECTIONS = 256
MOST_MESSAGE = 2_000_000  # bytes of a WebSocket's message; a picture comes in parts
GRACE = 1  # s for what is being answered when the server is told to stop


def serve(site: Site, port: int, ip: str, open_browser: bool) -> None:
    """Serve a page on this machine alone (or on `ip`) until SIGTERM, SIGINT or SIGHUP; the process then ends with 0.

    Raises
    ------
    ValueError
        for an address that is not this machine's, a port in use, and what keeps the page from being opened.
    """
    listener = listen(ip, port)
    name = f"[{ip}]" if ":" in ip else ip
    address, token = f"http://{name}:{port}/", _token()
    app = Guard(build(site), LOOPBACK | {name}, token, f"imgsearch-{port}")
    server = uvicorn.Server(uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", server_header=False, ws_max_size=MOST_MESSAGE,
        limit_concurrency=MOST_CONNECTIONS, timeout_graceful_shutdown=GRACE))

    def stop(*_) -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)  # uvicorn takes over the first two, and raises them again when it has ended
    with _announced(port, {"address": address, "port": port, "pid": os.getpid(), "token": token}) as page:
        print(f"{site.title}: {address}?token={token}\nCtrl-C stops it.", flush=True)
        if not ipaddress.ip_address(ip).is_loopback:
            print(f"imgsearch: whoever can read the traffic to {ip} can read the token: it is not encrypted",
                  file=sys.stderr, flush=True)
        site.start(stop)
        if open_browser:
            threading.Thread(target=webbrowser.open, args=(page.as_uri(),), daemon=True).start()
        server.run([listener])
    if site.opened.done() and (error := site.opened.exception()):
        raise error
    sys.stdout.flush()
    os._exit(0)  # not by way of the threads, which may be loading a network still


def listen(ip: str, port: int) -> socket.socket:
    """A socket that listens; ValueError where it cannot."""
    try:
        given = ipaddress.ip_address(ip)
    except ValueError:
        raise ValueError(f"--ip must be an address of this machine such as 127.0.0.1, got {ip!r}") from None
    if given.is_unspecified:
        raise ValueError(f"--ip {ip} would listen on every address; give the one by which others reach this machine")
    listener = socket.socket(socket.AF_INET6 if given.version == 6 else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((ip, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == 98 or "in use" in str(error):
            raise ValueError(f"port {port} is in use; stop what listens there, or give --port") from None
        raise ValueError(f"cannot listen on {ip}, port {port}: {error.strerror}") from None
    return listener


def _token() -> str:
    """A new one, or that of IMGSEARCH_TOKEN; not an option, which every user of the machine could read in the list."""
    given = os.environ.get("IMGSEARCH_TOKEN", "")
    if given and not re.fullmatch(r"[A-Za-z0-9_-]{16,200}", given):
        raise ValueError("IMGSEARCH_TOKEN must be 16 to 200 letters, digits, - and _")
    return given or secrets.token_urlsafe(24)


def _folder() -> Path:
    return platformdirs.user_state_path("imgsearch") / "servers"


@contextlib.contextmanager
def _announced(port: int, about: dict[str, Any]) -> Iterator[Path]:
    """Keep what programs of this user need to know in a file that no other user can read, and a page that goes there.

    A browser is started with that page: what stands on a command line, every user of the machine can read.
    """
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    address = html.escape(f"{about['address']}?token={about['token']}")
    texts = {folder / f"{port}.json": json.dumps(about),
             folder / f"{port}.html": f'<meta http-equiv="refresh" content="0;url={address}">'}
    try:
        for file, text in texts.items():
            file.unlink(missing_ok=True)  # of a server that was killed
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
                opened.write(text)
        yield folder / f"{port}.html"
    finally:
        for file in texts:
            file.unlink(missing_ok=True)


def token_of(address: str, port: int) -> str:
    """The token of this user's server at an address such as http://127.0.0.1:8867/; ValueError where there is none."""
    file = _folder() / f"{port}.json"
    try:
        about = json.loads(file.read_text())
        if about["address"] == address:
            return about["token"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"no server of yours at {address} is known; give the whole address that it printed, with ?token=...")
