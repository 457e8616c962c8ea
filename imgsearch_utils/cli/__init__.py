"""In: what is typed behind `imgsearch`. Out: thin calls into the other rooms.

An error of use is one clear line and exit status 1.
"""

import signal
import sys
import threading

AGAIN = 0.05  # seconds until an interrupt that came while a library was being loaded comes again
_waiting = threading.Event()  # whether there is such an interrupt


def entry() -> None:
    """Run the command; Ctrl-C ends it quietly at any moment, also while it is loaded (130 is its
    usual status).
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        from imgsearch_utils.cli.commands import run

        if _waiting.is_set():
            raise KeyboardInterrupt
        run()
    except KeyboardInterrupt:
        sys.exit(130)


def _interrupt(number: int, frame) -> None:
    """KeyboardInterrupt, as soon as no library is being loaded: those written in C++ would end the
    process by it.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _waiting.set()
            later = threading.Timer(AGAIN, signal.raise_signal, [number])
            later.daemon = True
            later.start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt
