"""Encoding by Ray Data: on all cores and graphics cards of this machine, or of a cluster."""

import contextlib
import logging
import os
import secrets
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from imgsearch_utils.encoders.encoder import DEVICE

ANSWERED = 10  # seconds in which a cluster must answer
BATCH = 64  # pictures that a worker gets at once, and that are encoded again where it is killed
INSTALL = 'encoding by Ray needs it: pip install "imgsearch-utils[ray]"'

#: what ``Encoder.encode_files`` takes and gives
EncodeFiles = Callable[[Sequence[Path], Callable, bool | None], tuple[np.ndarray, dict[int, str]]]


class Worker:
    """An encoder in a process of its own, for batches of columns `row` and `path`."""

    def __init__(self, encoder: str, many: bool | None):
        import torch

        from imgsearch_utils.encoders.encoder_names import get_encoder

        torch.set_num_threads(1)
        self._encoder, self._many = get_encoder(encoder), many

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray | list]:
        vectors, failures = self._encoder.encode_files(
            [Path(path) for path in batch["path"]], iter, self._many
        )
        places = range(len(vectors))
        return {
            "row": batch["row"],
            "reason": [failures.get(place, "") for place in places],
            "vector": [b"" if place in failures else vectors[place].tobytes() for place in places],
        }


def by_ray(encoder: str, address: str = "") -> EncodeFiles:
    """A function that encodes files as ``Encoder.encode_files`` does, to the same bytes, by workers
    of Ray Data.

    There are as many as processors, or one for each graphics card. A worker that is killed is
    started again, and its batch goes to another. On a cluster, the pictures and this package must
    be at the same place on every machine.

    Parameters
    ----------
    encoder : as a study names it
    address : of a cluster, as Ray takes it ("auto", "ray://..."); empty: this machine alone

    Raises
    ------
    ImportError
        with the line that installs Ray, where it is not there.
    ConnectionError
        where no cluster answers at `address`.
    RuntimeError where this process uses Ray already, and `address` names another; and for lost
        vectors, when files are encoded.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # it listens on all of a machine's addresses, and answers whoever
    if not address and "ray" not in sys.modules:
        # knows the token, which it reads when it is imported
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # errors are raised here; what it logs is for its makers
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if address and "ray" in sys.modules and sys.modules["ray"].is_initialized():
        raise RuntimeError(
            f"this process uses Ray already; leave the address out, or ask {address} from another"
        )
    host, _, port = address.removeprefix("ray://").rpartition(":")
    with _in_one_line(address):
        if port.isdecimal():  # Ray itself tries for minutes
            socket.create_connection((host, int(port)), ANSWERED).close()
    try:
        import ray
    except ImportError:
        raise ImportError(INSTALL) from None
    _join(ray, address)

    def encode_files(paths, progress=iter, many=None):
        cards = int(ray.cluster_resources().get("GPU", 0)) if DEVICE == "cuda" else 0
        workers = max(1, cards or int(ray.cluster_resources()["CPU"]))
        workers = min(workers, -(-len(paths) // BATCH))
        rows = ray.data.from_items(
            [{"row": row, "path": str(path)} for row, path in enumerate(paths)],
            override_num_blocks=-(-len(paths) // BATCH),
        )
        done = rows.map_batches(
            Worker,
            fn_constructor_args=(encoder, many),
            batch_size=BATCH,
            num_cpus=1,
            num_gpus=1 if cards else None,
            compute=ray.data.ActorPoolStrategy(size=workers),
        )
        vectors, failures = {}, {}
        for _, batch in zip(
            progress(range(0, len(paths), BATCH)), done.iter_batches(batch_size=BATCH)
        ):
            for row, vector, reason in zip(batch["row"], batch["vector"], batch["reason"]):
                (failures if reason else vectors)[int(row)] = str(reason) or np.frombuffer(
                    vector, np.float32
                )
        if sorted([*vectors, *failures]) != [*range(len(paths))]:
            raise RuntimeError(
                f"Ray gave {len(vectors) + len(failures):,} of {len(paths):,} vectors; try again"
            )
        nothing = np.full(len(next(iter(vectors.values()), ())), np.nan, np.float32)
        return np.stack([vectors.get(row, nothing) for row in range(len(paths))]), failures

    return encode_files


@contextlib.contextmanager
def _in_one_line(address):
    try:
        yield
    except (OSError, ValueError, RuntimeError, OverflowError) as error:
        raise ConnectionError(
            f"no Ray cluster answers at {address or 'this machine'} "
            f"({' '.join(str(error).split())[:150]}); start it (ray start --head), or leave "
            "--address out"
        ) from None


def _join(ray, address):
    """Connect to the cluster, or start Ray here."""
    if ray.is_initialized():
        return
    if not address and not os.environ.get("RAY_AUTH_TOKEN"):
        raise RuntimeError(
            "Ray was imported before it had a token, and would answer anybody on the network; "
            "start it yourself (ray.init), or import it later"
        )
    here = {} if address else {"include_dashboard": False}
    with _in_one_line(address):
        ray.init(address=address or "local", logging_level="ERROR", log_to_driver=False, **here)
    ray.data.DataContext.get_current().enable_progress_bars = False
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
