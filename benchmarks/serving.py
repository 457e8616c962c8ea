"""How the server of the pages behaves: until it shows its page, after many visits, and how fast it
finds pictures.

Run: python -m benchmarks.serving [--clients 8] [--pictures 320] [--run RUN --study STUDY] [--json]

Without --run it serves 450 drawn houses of 256 px in a workspace of its own. `page_seconds` is from
the command to the page; `search_*` are times (ms) of POST /api/search with a picture that was not
sent before, by one client and by several at once that each wait for an answer and ask again at
once; `encoder_ms` is the bare encoder for one of these pictures, decoding included, on one thread.
`busy` is the share of the machine's processors that other programs used during the measurement."""

import argparse
import http.client
import io
import json
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil

from benchmarks import browser
from imgsearch_utils import workspace
from imgsearch_utils.drawn_houses import draw_house, sample_houses

VISITS = 1000


def pictures(n: int) -> list[bytes]:
    """Drawn houses that no run holds, as JPEG."""
    contents = []
    for house in sample_houses(-(-n // 3), seed=77).to_dict("records")[:n]:
        buffer = io.BytesIO()
        draw_house(house, 256).save(buffer, "JPEG", quality=92)
        contents.append(buffer.getvalue())
    return contents


class Client:
    """A program that keeps one connection open."""

    def __init__(self, server: browser.ServedPage):
        self._headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "image/jpeg"}
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port)

    def ask(self, path: str, body: bytes | None = None) -> bytes:
        """Ask, and take the whole answer."""
        self._connection.request("POST" if body else "GET", path, body, self._headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(content.decode())
        return content


def timed(server: browser.ServedPage, contents: list[bytes], clients: int) -> list[float]:
    """Milliseconds of each search, by so many clients at once, each with its share of the
    pictures.
    """
    taken: list[list[float]] = [[] for _ in range(clients)]

    def work(number: int) -> None:
        client = Client(server)
        for content in contents[number::clients]:
            start = time.perf_counter()
            client.ask("/api/search?k=10", content)
            taken[number].append(1000 * (time.perf_counter() - start))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [each for one in taken for each in one]


def others_share(before, after, own: float, seconds: float) -> float:
    """The share of the machine that programs other than ours used between two readings of
    `psutil.cpu_times`.
    """
    used = sum(getattr(after, name) - getattr(before, name) for name in ("user", "system", "nice"))
    return max(0.0, (used - own) / (seconds * psutil.cpu_count()))


def bare(contents: list[bytes]) -> float:
    """Median milliseconds of decoding and encoding one picture on one thread, in this process."""
    from imgsearch_utils.encoders.encoder import one_thread
    from imgsearch_utils.encoders.encoder_names import get_encoder
    from imgsearch_utils.search.service import read_upload

    encoder, taken = get_encoder("efficientnet_lite0"), []
    with one_thread():
        for content in contents[:43]:
            start = time.perf_counter()
            encoder.encode_images([read_upload(content)])
            taken.append(1000 * (time.perf_counter() - start))
    return float(np.median(taken[3:]))


def measure(home: Path, study: str, run: str, n: int, clients: int) -> dict[str, float]:
    """All numbers, by name."""
    contents = pictures(n)
    given = [f"--study={study}", *([f"--run={run}"] if run else [])]
    start = time.perf_counter()
    with browser.ServedPage(home, "serve", *given) as server:
        client = Client(server)
        client.ask("/")
        found = {"page_seconds": time.perf_counter() - start}
        while json.loads(client.ask("/api/health"))["status"] != "ready":
            time.sleep(0.05)
        client.ask("/api/search?k=10", contents[0])
        found["first_answer_seconds"] = time.perf_counter() - start
        process = psutil.Process(server.process.pid)
        steady = 0
        while steady < 5:  # until the network for many pictures is there
            used = process.cpu_percent(0.2)
            steady = steady + 1 if used < 5 else 0
        found["memory_mb"] = process.memory_info().rss / 1e6
        for _ in range(VISITS):
            client.ask("/")
        found["memory_after_1000_visits_mb"] = process.memory_info().rss / 1e6
        timed(server, contents[:16], 2)
        for name, many in (("1", 1), (str(clients), clients)):
            before, cpu = (
                psutil.cpu_times(),
                sum(process.cpu_times()[:2]) + sum(psutil.Process().cpu_times()[:2]),
            )
            begun = time.perf_counter()
            taken = timed(server, contents[: n // 4] if many == 1 else contents, many)
            seconds = time.perf_counter() - begun
            own = sum(process.cpu_times()[:2]) + sum(psutil.Process().cpu_times()[:2]) - cpu
            p50, p95 = np.quantile(taken, [0.5, 0.95]).tolist()
            found |= {
                f"search_{name}_p50_ms": p50,
                f"search_{name}_p95_ms": p95,
                f"search_{name}_per_second": len(taken) / seconds,
                f"cpu_ms_a_search_{name}": 1000 * own / len(taken),
                f"busy_{name}": others_share(before, psutil.cpu_times(), own, seconds),
            }
    return found | {"encoder_ms": bare(contents), "processors": psutil.cpu_count()}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--pictures", type=int, default=320)
    parser.add_argument("--study", default="synthetic_houses")
    parser.add_argument("--run", default="", help="serve this run of the study")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.run:
        found = measure(workspace.home(), given.study, given.run, given.pictures, given.clients)
    else:
        from imgsearch_utils.encoders.embed_collection import embed_run
        from imgsearch_utils.images.collection import open_collection

        with tempfile.TemporaryDirectory() as folder:
            os.environ["IMGSEARCH_HOME"] = folder
            run = workspace.find_run(given.study, begin=True)
            embed_run(run, open_collection(run))
            found = measure(Path(folder), given.study, "", given.pictures, given.clients)
    if given.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:28} {value:10.2f}")


if __name__ == "__main__":
    main()
