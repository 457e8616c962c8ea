"""Connections that brought no token, and lines that repeat: both stay few, however many come."""

import logging
from collections import Counter

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

STRANGERS = 128  # connections without a token at once; the oldest makes room for the next
AT_A_TIME = 128  # connections that are accepted before the first of them is looked at
TOLD = 3  # times that a line is written in full
MOST_LINES = 1000  # different ones that are counted


class Strangers:
    """The connections of which none has brought the token yet.

    protocol : what uvicorn makes of each connection
    """

    def __init__(self, most: int = STRANGERS):
        self._open: dict[tuple, HttpToolsProtocol] = {}
        strangers = self._open

        class Connection(HttpToolsProtocol):
            """A connection that is closed where it brings no token and others wait."""

            def connection_made(self, transport) -> None:
                super().connection_made(transport)
                strangers[self.client] = self
                if len(strangers) > most:
                    strangers.pop(next(iter(strangers))).transport.abort()

            def connection_lost(self, exc) -> None:
                strangers.pop(self.client, None)
                super().connection_lost(exc)

            def handle_websocket_upgrade(self) -> None:
                strangers.pop(self.client, None)  # it is answered at once, or closed
                super().handle_websocket_upgrade()

        self.protocol = Connection

    def trust(self, client: tuple | None) -> None:
        """Leave a connection open from now on: it brought the token.

        client : its address and port
        """
        self._open.pop(client and tuple(client), None)


class Counted(logging.Filter):
    """Lets a line pass the first times, then with a count each time that it is ten times as
    frequent.
    """

    def __init__(self):
        super().__init__()
        self._times: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        line = str(record.msg)[:200]
        if line not in self._times and len(self._times) >= MOST_LINES:
            self._times.clear()
        self._times[line] += 1
        times = self._times[line]
        if times <= TOLD:
            return True
        if times != 10 ** (len(str(times)) - 1):
            return False
        record.msg, record.args = f"{record.getMessage()[:200]} ({times:,} times by now)", ()
        record.exc_info = record.exc_text = None
        return True


def count_repeated_lines() -> None:
    """Of the server and of what it is built on."""
    counted = Counted()
    for name in ("uvicorn.error", "uvicorn.asgi", "asyncio", "websockets.server"):
        logging.getLogger(name).addFilter(counted)
