"""As many threads as a test says, whatever the machine has."""

from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def on_cores(number: int):
    """As where so many threads may be used."""
    threads = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        with threadpool_limits(number):
            yield
    finally:
        torch.set_num_threads(threads)
