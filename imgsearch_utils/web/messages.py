"""What the pages say: by what an answer is known, and what cannot be done as one line."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


def serial_of(message: Any, needed: bool = False) -> str | int | None:
    """By what a page knows the answer to its message; None where there is none that an answer gives
    back as it was.

    needed : ValueError instead, as for an act: what cannot be acknowledged is not written
    """
    serial = message.get("serial") if isinstance(message, dict) else None
    if isinstance(serial, str | int):
        return serial
    if needed:
        raise ValueError("not an act of this page; reload it")
    return None


@contextlib.contextmanager
def refusing(refuse: Callable[[str], None]) -> Iterator[None]:
    """Call `refuse` with one line where what is done here fails: for a reason that is said, or as
    no page asks so.
    """
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:  # nothing on screen changes but one line
        refuse(" ".join(str(error).split()))
    except (KeyError, TypeError, IndexError, AttributeError, OverflowError):
        refuse("not a message of this page; reload it")


class Sitting:
    """What a page at which somebody answers does with messages: one at a time, by their kind.

    A page sets `_task` (with `turn`, a lock), `_handlers` by kind and `_send`, and answers pictures
    that are wanted in ``_on_want``.
    """

    def receive(self, message: dict[str, Any], _=()) -> None:
        """Do what the page asks; what cannot be done is sent back as one line."""
        # a full disk, a broken journal: nothing acknowledged
        with refusing(lambda line: self._refuse(message, line)):
            if message["kind"] == "want":
                return self._on_want(message)
            with self._task.turn:
                self._handlers[message["kind"]](message)

    def _refuse(self, message, line: str) -> None:
        self._send({"kind": "error", "serial": serial_of(message), "line": line})
