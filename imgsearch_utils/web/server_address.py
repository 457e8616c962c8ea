"""Where a page's server is, and how a program of the same user asks it."""

import contextlib
import html
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import platformdirs

PATIENCE = 120  # s for an answer; a server that was just started may be opening its run


def _folder() -> Path:
    return platformdirs.user_state_path("imgsearch") / "servers"


@contextlib.contextmanager
def announced(port: int, about: dict[str, Any]) -> Iterator[Path | None]:
    """Keep what programs of this user need to know in a file that no other user can read, and a
    page that goes there; None, and a line that says so, where no such file can be written.

    A browser is started with that page: what stands on a command line, every user of the machine
    can read.

    about : address, port, pid and token
    """
    folder = _folder()
    goal = html.escape(f"{about['address']}?token={about['token']}")
    texts = {
        folder / f"{port}.json": json.dumps(about),
        folder / f"{port}.html": f'<meta http-equiv="refresh" content="0;url={goal}">',
    }
    page = folder / f"{port}.html"
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for file, text in texts.items():
                file.unlink(missing_ok=True)  # of a server that was killed
                with os.fdopen(
                    os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w"
                ) as opened:
                    opened.write(text)
        except OSError as error:  # no home, a full disk
            page = None
            print(
                f"imgsearch: {folder} cannot be written ({error.strerror}): open the address that "
                "stands here by hand, and give it to --server as it stands",
                file=sys.stderr,
                flush=True,
            )
        yield page
    finally:
        for file in texts:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)


class Server:
    """A server that answers programs.

    url : its address, with ``?token=...`` as it printed it, or without for a server of the same
        user on this machine

    Raises
    ------
    ValueError
        for what is no such address, and where no token is known
    """

    def __init__(self, url: str):
        parts = urlsplit(url if "//" in url else f"http://{url}")
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if parts.scheme != "http" or not host or not port:
            raise ValueError(
                f"--server must be an address such as http://127.0.0.1:8867/?token=..., got {url!r}"
            )
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        self._token = parse_qs(parts.query).get("token", [""])[0] or self._known(port)

    def _known(self, port: int) -> str:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            about = json.loads((_folder() / f"{port}.json").read_text())
            if self.address in (about["address"], f"http://localhost:{port}/"):
                return about["token"]
        raise ValueError(
            f"no server of yours is known at {self.address}; give the address that it "
            "printed, with ?token="
        )

    def ask(self, what: str, body: bytes | dict | None = None, **options: Any) -> dict[str, Any]:
        """Ask "search", "classify" or "health"; a picture as its bytes with options, anything else
        as JSON.

        Raises
        ------
        ValueError
            one line, for a question that the server refuses
        RuntimeError
            one line, where no server answers, or not this user
        """
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        kind = "application/json" if isinstance(body, dict) else "application/octet-stream"
        query_string = f"?{urlencode(options)}" if options else ""
        request = urllib.request.Request(
            f"{self.address}api/{what}{query_string}",
            content,
            {"Authorization": f"Bearer {self._token}", "Content-Type": kind},
        )
        # no way round by a proxy
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=PATIENCE) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            text = error.read(2000).decode("utf-8", "replace")
            with contextlib.suppress(ValueError, KeyError, TypeError):
                text = json.loads(text)["error"]
            line = " ".join(text.split()) or f"{self.address} answers with status {error.code}"
            raise (ValueError if error.code in (400, 413) else RuntimeError)(line) from None
        except OSError as error:
            reason = getattr(error, "reason", None) or error
            raise RuntimeError(
                f"no server answers at {self.address} ({reason}); start it: imgsearch serve"
            ) from None
        except ValueError:
            raise RuntimeError(
                f"{self.address} gives no answer in JSON; is it a server of imgsearch?"
            ) from None
