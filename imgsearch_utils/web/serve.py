"""A page's server as a process: its port, its token, and its end, after which nothing is left."""

import errno
import ipaddress
import os
import re
import secrets
import signal
import socket
import sys
import threading
import webbrowser

import uvicorn

from imgsearch_utils.web.connections import AT_A_TIME, STRANGERS, Strangers, count_repeated_lines
from imgsearch_utils.web.guard import Guard
from imgsearch_utils.web.server import Site, build
from imgsearch_utils.web.server_address import announced

LOOPBACK = {"127.0.0.1", "localhost", "[::1]"}
MOST_CONNECTIONS = 256  # that brought the token
MOST_MESSAGE = 2_000_000  # bytes of a WebSocket's message; a picture comes in parts
GRACE = 1  # s for what is being answered when the server is told to stop


def serve(site: Site, port: int, ip: str, open_browser: bool) -> None:
    """Serve a page on this machine alone (or on `ip`) until SIGTERM, SIGINT or SIGHUP; the process
    then ends with 0.

    Raises
    ------
    ValueError for an address that is not this machine's, a port in use, and what keeps the page
        from being opened.
    """
    listener = listen(ip, port)
    name = f"[{ip}]" if ":" in ip else ip
    address, token = f"http://{name}:{port}/", _token()
    strangers = Strangers()
    app = Guard(build(site), LOOPBACK | {name}, token, f"imgsearch-{port}", strangers.trust)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=strangers.protocol,
            backlog=AT_A_TIME,
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            ws_max_size=MOST_MESSAGE,
            limit_concurrency=MOST_CONNECTIONS + STRANGERS,
            timeout_graceful_shutdown=GRACE,
        )
    )

    count_repeated_lines()

    def stop(*_) -> None:
        server.should_exit = True

    for name_of in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name_of):
            # uvicorn takes over two, and raises them again at its end
            signal.signal(getattr(signal, name_of), stop)
    with announced(
        port, {"address": address, "port": port, "pid": os.getpid(), "token": token}
    ) as page:
        print(f"{site.title}: {address}?token={token}\nCtrl-C stops it.", flush=True)
        if not ipaddress.ip_address(ip).is_loopback:
            print(
                f"imgsearch: whoever can read the traffic to {ip} can read the token: it is not "
                "encrypted",
                file=sys.stderr,
                flush=True,
            )
        site.start(stop)
        if open_browser and page:
            threading.Thread(target=webbrowser.open, args=(page.as_uri(),), daemon=True).start()
        server.run([listener])
    if site.opened.done() and (error := site.opened.exception()):
        raise error
    sys.stdout.flush()
    os._exit(0)  # not by way of the threads, which may be loading a network still


def listen(ip: str, port: int) -> socket.socket:
    """A socket that listens; ValueError where it cannot."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        raise ValueError(
            f"--ip must be an address of this machine such as 127.0.0.1, got {ip!r}"
        ) from None
    if address.is_unspecified:
        raise ValueError(
            f"--ip {ip} would listen on every address; give the one by which others reach this "
            "machine"
        )
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    # so named, answers do not wait 40 ms
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((ip, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ValueError(
                f"port {port} is in use; stop what listens there, or give --port"
            ) from None
        raise ValueError(f"cannot listen on {ip}, port {port}: {error.strerror}") from None
    return listener


def _token() -> str:
    """A new one, or that of IMGSEARCH_TOKEN; not an option, which every user of the machine could
    read in the list.
    """
    given_token = os.environ.get("IMGSEARCH_TOKEN", "")
    if given_token and not re.fullmatch(r"[A-Za-z0-9_-]{16,200}", given_token):
        raise ValueError("IMGSEARCH_TOKEN must be 16 to 200 letters, digits, - and _")
    return given_token or secrets.token_urlsafe(24)
