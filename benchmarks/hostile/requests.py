"""Strange requests to a pages' server: forged, broken, huge and slow ones, random messages, clients
that vanish.
"""

import contextlib
import http.client
import json
import socket

import numpy as np
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from benchmarks.hostile import messages
from benchmarks.hostile.case import STUDY, Case
from benchmarks.hostile.inputs import ODD, VALUES, mutated, odd_picture
from imgsearch_utils.workspace.registry import Registry

SAID = (
    "{}",
    "[]",
    "null",
    '{"ping":1}',
    '{"content":null,"buffers":0}',
    '{"content":{},"buffers":-1}',
    '{"content":{"kind":"hello"},"buffers":1e9}',
    '{"content":{"kind":"hello"}}',
)
STRANGE = Registry("strange request")  # each (site): does something to a server
# how a server may end a talk
BROKEN = (OSError, http.client.HTTPException, WebSocketException, EOFError)


class Client:
    """Who asks a server.

    acknowledged : what the server said is on disk, in the order in which it was said
    unsure : what was said to the server, which did not answer
    open : connections that stay
    """

    def __init__(self, case: Case, port: int, token: str):
        self.case, self.rng, self.port, self.token = case, case.rng, port, token
        self.acknowledged, self.unsure, self.open = [], [], []

    def ask(self, method: str, path: str, body=None, token: bool = True, **headers):
        """Status and content of an answer; status 0 where the server closed instead."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            given["Authorization"] = f"Bearer {self.token}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except TimeoutError:
            self.case.fall(f"no answer in 60 s to {method} {path[:60]}")
            return 0, b""
        except (*BROKEN, ValueError, UnicodeError):
            return 0, b""
        finally:
            connection.close()

    def raw(self, content: bytes, stay: bool = False) -> socket.socket | None:
        """Bytes to the port; the connection is kept open, or vanishes."""
        with contextlib.suppress(OSError):
            connection = socket.create_connection(("127.0.0.1", self.port), 10)
            connection.sendall(content)
            if stay:
                self.open.append(connection)
            else:
                # a reset, no goodbye
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                connection.close()

    def talk(self):
        """A WebSocket of the page."""
        return connect(
            f"ws://127.0.0.1:{self.port}/talk",
            proxy=None,
            open_timeout=30,
            close_timeout=2,
            additional_headers={"Authorization": f"Bearer {self.token}"},
        )


def one_line(site: Client, status: int, content: bytes, what: str) -> None:
    """A refusal is 4xx (or 503, busy) and short; 500 is a traceback in the log."""
    if status >= 500 and status != 503:
        site.case.fall(f"status {status} of {what}: {content[:100]!r}")


@STRANGE.register("right")
def right(site: Client) -> None:
    """A sound question, which must get the right answer whatever happened before."""
    names, case = site.case.base.names, site.case
    row = int(site.rng.integers(len(names)))
    body = json.dumps({"image": names[row], "k": 5, "model": "encoder"})
    status, content = site.ask("POST", "/api/search", body, Content_Type="application/json")
    if status == 200:
        unit = np.load(case.base.home / f"vector_dbs/{STUDY}/encoder/vectors.npy")
        unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
        found = [each["score"] for each in json.loads(content)["results"]]
        if np.abs(np.sort(unit @ unit[row])[::-1][:5] - found).max() > 1e-4:
            case.fall(f"wrong result of /api/search for {names[row]}")
    elif status not in (404, 405, 503):
        case.fall(f"a sound question got status {status}: {content[:100]!r}")


@STRANGE.register("odd_request")
def odd_request(site: Client) -> None:
    """Random method, path, headers and body."""
    one_of = site.case.one_of
    path = one_of(
        [
            "/",
            "/api/search",
            "/api/classify",
            "/api/health",
            "/talk",
            "/api/openapi.json",
            "/%00",
            "/..%2f..",
            "//evil",
            "/api/" + "x" * 9000,
            "/api/search?k=%ff&k=1&model=" + "y" * 500,
            "/page.js/../../x",
        ]
    )
    kind = one_of(
        [
            "application/json",
            "multipart/form-data; boundary=x",
            "multipart/form-data",
            "image/png",
            "text/x",
            "application/octet-stream",
            "application/json; charset=utf-7",
            "",
        ]
    )
    body = one_of(
        [
            b"",
            b"{}",
            b"[" * 5000,
            site.rng.bytes(300),
            b'{"image":' + b"9" * 5000 + b"}",
            b"--x\r\n\r\n",
        ]
    )
    method = one_of(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "FOO"])
    headers = {
        one_of(["X-A", "Cookie", "Range", "Expect", "Accept-Encoding", "Upgrade"]): one_of(
            ["a" * 9000, "100-continue", "bytes=9-1", "\xff", "websocket", "="]
        )
    }
    one_line(
        site, *site.ask(method, path, body, Content_Type=kind, **headers), f"{method} {path[:40]}"
    )


@STRANGE.register("odd_question")
def odd_question(site: Client) -> None:
    """JSON whose fields have odd values."""
    question = {"image": site.case.one_of(site.case.base.names), "k": 3}
    for _ in range(site.rng.integers(1, 3)):
        question[site.case.one_of(["image", "words", "k", "model", "expand", "level", "x"])] = (
            site.case.one_of(VALUES)
        )
    path = site.case.one_of(["/api/search", "/api/classify"])
    answer = site.ask("POST", path, json.dumps(question), Content_Type="application/json")
    one_line(site, *answer, str(question)[:90])


@STRANGE.register("odd_upload")
def odd_upload(site: Client) -> None:
    """Odd pictures as bytes and as forms, some of them broken."""
    _, content = odd_picture(site.case)
    path = site.case.one_of(["/api/search", "/api/classify"])
    if site.rng.random() < 0.5:
        answer = site.ask("POST", path, content, Content_Type="application/octet-stream")
        return one_line(site, *answer, f"a picture to {path}")
    form = (
        b'--x\r\nContent-Disposition: form-data; name="picture"; filename="a.png"\r\n\r\n'
        + content
        + b'\r\n--x\r\nContent-Disposition: form-data; name="k"\r\n\r\n3\r\n--x--\r\n'
    )
    form = mutated(site.rng, form) if site.rng.random() < 0.6 else form
    one_line(
        site,
        *site.ask("POST", path, form, Content_Type="multipart/form-data; boundary=x"),
        f"a form to {path}",
    )


@STRANGE.register("slow")
def slow(site: Client) -> None:
    """Requests that are never finished, and stay."""
    head = (
        f"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\nAuthorization: Bearer "
        f"{site.token}\r\n"
    )
    for _ in range(site.rng.integers(1, 12)):
        site.raw(
            (head + "Content-Length: 5000\r\n\r\nx" * int(site.rng.integers(2))).encode(), stay=True
        )


@STRANGE.register("vanish")
def vanish(site: Client) -> None:
    """Clients that go while they are answered."""
    body = json.dumps({"image": site.case.base.names[0]})
    for _ in range(site.rng.integers(1, 6)):
        site.raw(
            f"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\nAuthorization: Bearer "
            f"{site.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )


@STRANGE.register("odd_talk")
def odd_talk(site: Client) -> None:
    """A WebSocket that says what no page says, then leaves, by the door or not."""
    with contextlib.suppress(*BROKEN, TimeoutError), site.talk() as talk:
        for _ in range(site.rng.integers(1, 6)):
            talk.send(site.case.one_of([*SAID, *ODD, site.rng.bytes(100)]))
        if site.rng.random() < 0.5:
            talk.socket.close()


def page_talks(site: Client, name: str) -> None:
    """The page's own messages: of "ann" as they should be, and what is acknowledged is remembered;
    of "mal" not so.
    """
    pairs, said = None, {"kind": "hello", "name": name, "serial": "h", "k": 5}
    with contextlib.suppress(*BROKEN, TimeoutError), site.talk() as talk:
        widget = json.loads(talk.recv(60))["start"]["widget"]
        for _ in range(20):
            talk.send(json.dumps({"content": said, "buffers": 0}))
            labels = name == "ann" and messages.kind_of(said) in ("act", "vote")
            act = (
                messages.told(said, name, said["pair"] if said["kind"] == "act" else said["names"])
                if labels
                else ()
            )
            site.unsure += [act] if labels else []
            waits = name == "ann" or messages.kind_of(said) == "hello"
            for answer in until_answered(site, talk, said) if waits else ():
                if labels and answer.get("serial") == said["serial"]:
                    site.unsure.remove(act)
                    site.acknowledged += [act] if answer["kind"] != "error" else []
                if answer.get("pictures"):
                    pairs = answer["place"], [each["name"] for each in answer["pictures"]]
            if widget == "tagger" and not pairs:
                return
            said = next_message(site, widget, name, pairs)
            if name == "mal" and site.rng.random() < 0.5:
                said = messages.malformed(site.rng, said)


def next_message(site: Client, widget: str, name: str, pairs: tuple | None) -> dict:
    """What a person does next on this page: a grade of the pair that is shown, or a search, or a
    vote.
    """
    rng = site.rng
    if widget == "search_page":
        said = {"kind": "upload"}
        while said["kind"] == "upload":  # pictures are for ``odd_upload``
            said = messages.searching(rng, site.case.base.names) | {"name": name}
        return said
    act = site.case.one_of(["grade", "grade", "skip", "unsure"])
    return {
        "kind": "act",
        "place": pairs[0],
        "pair": pairs[1],
        "act": act,
        "seconds": 1.0,
        "answers": "",
        "serial": f"s{rng.integers(10**9)}",
        **({"grade": int(rng.integers(4))} if act == "grade" else {}),
    }


def until_answered(site: Client, talk, said: dict) -> list[dict]:
    """The server's answers up to the one that ends this message."""
    ends = {"hello": ("open", "state"), "want": ("picture",), "vote": ("voted",), "act": ("state",)}
    answers = []
    while True:
        received = talk.recv(30)
        if isinstance(received, bytes) or "content" not in (told := json.loads(received)):
            continue
        answers.append(told["content"])
        # not the end of an answer to another message
        own = told["content"].get("serial") in (said.get("serial"), None)
        if own and told["content"].get("kind") in (
            *ends.get(said["kind"], ("results", "state")),
            "error",
        ):
            return answers


@STRANGE.register("sound_talk")
def sound_talk(site: Client) -> None:
    """A person who grades or searches, and waits for each answer."""
    page_talks(site, "ann")


@STRANGE.register("malformed_talk")
def malformed_talk(site: Client) -> None:
    """The page's messages, some of them malformed, and nobody waits for the answers."""
    page_talks(site, "mal")
