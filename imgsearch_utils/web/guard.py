"""Who may talk to a page's server, and how much they may say: address, token, origin, size; and
what browsers allow.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from urllib.parse import parse_qs

from fastapi.exceptions import HTTPException
from fastapi.requests import HTTPConnection
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from starlette.requests import ClientDisconnect

MOST_BYTES = 21_000_000  # of a request's body: a picture of 20 MB and what is around it
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
# a page that a library draws, which writes programs for the graphics card as it goes, and styles
# itself
MAP = "map"
MAP_POLICY = (
    HEADERS["Content-Security-Policy"]
    .replace("script-src 'self'", "script-src 'self' 'unsafe-eval'")
    .replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
)
_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
_MAP_HEADERS = [
    (name.lower().encode(), value.encode())
    for name, value in {**HEADERS, "Content-Security-Policy": MAP_POLICY}.items()
]
NO_TOKEN = (
    "This server needs its token: open the address that it printed when it started, with "
    "?token=...\n"
)
ON = '<!doctype html><meta http-equiv="refresh" content="0;url=/"><title>Image search</title>'


class Guard:
    """ASGI middleware in front of every route.

    Parameters
    ----------
    hosts : the names by which the server may be called, without a port; a page of another name that
        resolves to this machine (DNS rebinding) is refused
    token : what a request must know, as a cookie, as ``Authorization: Bearer``, or once as
        ``?token=``
    cookie : the cookie's name
    trust : is told the client, address and port, of each request that knows the token
    """

    def __init__(
        self,
        app,
        hosts: set[str],
        token: str,
        cookie: str,
        trust: Callable[[tuple | None], None] = lambda _: None,
    ):
        self._app, self._hosts, self._token, self._cookie = app, hosts, token, cookie
        self._trust = trust

    async def __call__(self, scope, receive, send):
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        asked = HTTPConnection(scope)
        answer = self._refusal(asked) or self._first_visit(asked)
        if scope["type"] == "websocket":
            if answer:
                # before it is accepted: status 403
                return await send({"type": "websocket.close", "code": 1008})
            return await self._app(scope, receive, send)
        try:
            own = _MAP_HEADERS if scope["path"] == f"/{MAP}" else _HEADERS
            await (answer or self._app)(scope, _bounded(receive), _with_headers(send, own))
        except ClientDisconnect:  # gone before all was said: nobody waits for an answer
            pass
        except (
            asyncio.CancelledError
        ):  # the server was told to stop, and does not wait for who is still sending
            with contextlib.suppress(Exception):  # where an answer had begun, or nobody takes one
                await PlainTextResponse("The server stops.\n", 503)(
                    scope, receive, _with_headers(send)
                )

    def _refusal(self, asked: HTTPConnection):
        host, *others = asked.headers.getlist("host") or [""]
        if others or _name_of(host) not in self._hosts:
            return PlainTextResponse("This server does not go by that name.\n", 400)
        origin = asked.headers.get("origin")
        reads = asked.scope["type"] == "http" and asked.scope["method"] in ("GET", "HEAD")
        if origin is not None and origin != f"http://{host}" and not reads:
            return PlainTextResponse("Pages of other origins may not ask this server.\n", 403)
        if not self._knows_token(asked):
            return PlainTextResponse(NO_TOKEN, 401, {"WWW-Authenticate": "Bearer"})
        self._trust(asked.scope.get("client"))
        size = asked.headers.get("content-length", "0")
        if not size.isdigit() or int(size) > MOST_BYTES:
            return PlainTextResponse(f"At most {MOST_BYTES // 10**6} MB at once.\n", 413)
        return None

    def _given(self, asked: HTTPConnection) -> str | None:
        """The token in the address; only a page that is visited may bring it so."""
        visits = (
            asked.scope["type"] == "http"
            and asked.scope["method"] == "GET"
            and asked.url.path == "/"
        )
        return parse_qs(asked.url.query).get("token", [None])[0] if visits else None

    def _knows_token(self, asked: HTTPConnection) -> bool:
        kind, _, bearer = asked.headers.get("authorization", "").partition(" ")
        tokens = [
            self._given(asked),
            asked.cookies.get(self._cookie),
            bearer if kind.lower() == "bearer" else None,
        ]
        own = self._token.encode()
        return any(
            [
                secrets.compare_digest(token.encode("utf-8", "replace"), own)
                for token in tokens
                if token
            ]
        )

    def _first_visit(self, asked: HTTPConnection):
        """Keep the token as a cookie, and go on to the address without it, which may be bookmarked
        and shown.
        """
        if self._given(asked) is None:
            return None
        # a strict cookie does not come along on the way from another site; the page itself can go
        # on from here
        foreign = asked.headers.get("sec-fetch-site") == "cross-site"
        answer = HTMLResponse(ON) if foreign else RedirectResponse("/", 303)
        answer.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
        return answer


def _name_of(host: str) -> str:
    """A Host header without its port."""
    name, _, port = host.rpartition(":")
    return (name if port.isdigit() else host).lower()


def _bounded(receive):
    """Stop reading a body that is too long, where it gets too long."""
    total = 0

    async def bounded():
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > MOST_BYTES:
            raise HTTPException(413, f"At most {MOST_BYTES // 10**6} MB at once.")
        return message

    return bounded


def _with_headers(send, own=_HEADERS):
    async def with_headers(message):
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *own]}
        await send(message)

    return with_headers
