"""The pages' server: forged, broken, huge and slow requests, random messages, clients that vanish, and its end."""

import contextlib
import http.client
import json
import re
import signal
import socket
import time

import numpy as np
import psutil
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from benchmarks.hostile import messages
from benchmarks.hostile.case import JOURNAL, STUDY, Case, Skipped, attack
from benchmarks.hostile.commands import Command
from benchmarks.hostile.inputs import ODD, VALUES, mutated, odd_picture
from imgsearch_utils.labels.journal import Journal
from imgsearch_utils.registry import Registry

GROWTH_MB = 500  # that a server may grow by in one case; its networks are loaded after it has started
SAID = ("{}", "[]", "null", '{"ping":1}', '{"content":null,"buffers":0}', '{"content":{},"buffers":-1}',
        '{"content":{"kind":"hello"},"buffers":1e9}', '{"content":{"kind":"hello"}}')
STRANGE = Registry("strange request")  # each (site): does something to a server
BROKEN = (OSError, http.client.HTTPException, WebSocketException, EOFError)  # how a server may end a talk


class Site:
    """A server that was started by the command, and what was asked of it."""

    def __init__(self, case: Case, arguments):
        self.case, self.rng = case, case.rng
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.command: Command = case.start(*arguments, "--port", self.port, "--no-browser")
        self.log, self.open = "", []
        until = time.monotonic() + 60
        while not (found := re.search(r"\?token=([\w-]+)", self.log)):
            if self.command.ended(0.05) or time.monotonic() > until:
                self.ended()
            self.read()
        self.token, self.acknowledged = found[1], []

    def read(self) -> None:
        self.log += "".join(self.command.read())

    def ended(self) -> None:
        done = self.command.wait(1)
        if done.status == 1 and "imgsearch: " in done.last:
            self.case.judge(done)
            raise Skipped(f"the server does not start on this run: {done.last[:150]}")
        raise Skipped("this version has no server that prints a token")

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
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, no goodbye
                connection.close()

    def talk(self):
        """A WebSocket of the page."""
        return connect(f"ws://127.0.0.1:{self.port}/talk", proxy=None, open_timeout=30, close_timeout=2,
                       additional_headers={"Authorization": f"Bearer {self.token}"})


def one_line(site: Site, status: int, content: bytes, what: str) -> None:
    """A refusal is 4xx (or 503, busy) and short; 500 is a traceback in the log."""
    if status >= 500 and status != 503:
        site.case.fall(f"status {status} of {what}: {content[:100]!r}")


@STRANGE.register("right")
def right(site: Site) -> None:
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


@STRANGE.register("forged")
def forged(site: Site) -> None:
    """Another Host or Origin, no token or a wrong one."""
    host = site.case.one_of(["evil.example", f"evil.example:{site.port}", "", "127.0.0.1.evil.example", "0x7f.1"])
    headers = site.case.one_of([{"Host": host}, {"Origin": "http://evil.example"}, {"Origin": "null"}, {}])
    token = bool(headers)
    path = site.case.one_of(["/", "/api/search", "/api/health"])
    method = "POST" if "Origin" in headers else site.case.one_of(["GET", "POST"])
    status, _ = site.ask(method, path, b"{}" if method == "POST" else None, token, **headers)
    if status == 200:
        site.case.fall(f"a forged request was answered: {method} {path} {headers} {'' if token else 'without token'}")


@STRANGE.register("odd_request")
def odd_request(site: Site) -> None:
    """Random method, path, headers and body."""
    one_of = site.case.one_of
    path = one_of(["/", "/api/search", "/api/classify", "/api/health", "/talk", "/api/openapi.json", "/%00", "/..%2f..",
                   "//evil", "/api/" + "x" * 9000, "/api/search?k=%ff&k=1&model=" + "y" * 500, "/page.js/../../x"])
    kind = one_of(["application/json", "multipart/form-data; boundary=x", "multipart/form-data", "image/png", "text/x",
                   "application/octet-stream", "application/json; charset=utf-7", ""])
    body = one_of([b"", b"{}", b"[" * 5000, site.rng.bytes(300), b'{"image":' + b"9" * 5000 + b"}", b"--x\r\n\r\n"])
    method = one_of(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "FOO"])
    headers = {one_of(["X-A", "Cookie", "Range", "Expect", "Accept-Encoding", "Upgrade"]): one_of(
        ["a" * 9000, "100-continue", "bytes=9-1", "\xff", "websocket", "="])}
    one_line(site, *site.ask(method, path, body, Content_Type=kind, **headers), f"{method} {path[:40]}")


@STRANGE.register("odd_question")
def odd_question(site: Site) -> None:
    """JSON whose fields have odd values."""
    question = {"image": site.case.one_of(site.case.base.names), "k": 3}
    for _ in range(site.rng.integers(1, 3)):
        question[site.case.one_of(["image", "words", "k", "model", "expand", "level", "x"])] = site.case.one_of(VALUES)
    path = site.case.one_of(["/api/search", "/api/classify"])
    answer = site.ask("POST", path, json.dumps(question), Content_Type="application/json")
    one_line(site, *answer, str(question)[:90])


@STRANGE.register("odd_upload")
def odd_upload(site: Site) -> None:
    """Odd pictures as bytes and as forms, some of them broken."""
    _, content = odd_picture(site.case)
    path = site.case.one_of(["/api/search", "/api/classify"])
    if site.rng.random() < 0.5:
        answer = site.ask("POST", path, content, Content_Type="application/octet-stream")
        return one_line(site, *answer, f"a picture to {path}")
    form = (b'--x\r\nContent-Disposition: form-data; name="picture"; filename="a.png"\r\n\r\n' + content +
            b'\r\n--x\r\nContent-Disposition: form-data; name="k"\r\n\r\n3\r\n--x--\r\n')
    form = mutated(site.rng, form) if site.rng.random() < 0.6 else form
    one_line(site, *site.ask("POST", path, form, Content_Type="multipart/form-data; boundary=x"), f"a form to {path}")


@STRANGE.register("huge")
def huge(site: Site) -> None:
    """Bodies that are too long, or say that they are."""
    if site.rng.random() < 0.7:
        length = site.case.one_of(["999999999999", "-1", "1e9", "30000000", "²"])
        site.raw(f"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\nAuthorization: Bearer {site.token}\r\n"
                 f"Content-Length: {length}\r\n\r\n".encode() + b"x" * 100_000)
        return
    status, content = site.ask("POST", "/api/search", (b"x" * 1_000_000 for _ in range(24)),
                               Content_Type="application/octet-stream", Transfer_Encoding="chunked")
    one_line(site, status, content, "a body of 24 MB in chunks")


@STRANGE.register("slow")
def slow(site: Site) -> None:
    """Requests that are never finished, and stay."""
    head = f"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\nAuthorization: Bearer {site.token}\r\n"
    for _ in range(site.rng.integers(1, 12)):
        site.raw((head + "Content-Length: 5000\r\n\r\nx" * int(site.rng.integers(2))).encode(), stay=True)


@STRANGE.register("vanish")
def vanish(site: Site) -> None:
    """Clients that go while they are answered."""
    body = json.dumps({"image": site.case.base.names[0]})
    for _ in range(site.rng.integers(1, 6)):
        site.raw(f"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\nAuthorization: Bearer {site.token}\r\n"
                 f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())


@STRANGE.register("noise")
def noise(site: Site) -> None:
    """No HTTP at all."""
    site.raw(site.case.one_of([site.rng.bytes(500), b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"\r\n" * 1000]))


@STRANGE.register("odd_talk")
def odd_talk(site: Site) -> None:
    """A WebSocket that says what no page says, then leaves, by the door or not."""
    with contextlib.suppress(*BROKEN, TimeoutError), site.talk() as talk:
        for _ in range(site.rng.integers(1, 6)):
            talk.send(site.case.one_of([*SAID, *ODD, site.rng.bytes(100)]))
        if site.rng.random() < 0.5:
            talk.socket.close()


def page_talks(site: Site, name: str) -> None:
    """The page's own messages: of "ann" as they should be, and what is acknowledged is remembered; of "mal" not so."""
    pairs, said = None, {"kind": "hello", "name": name, "serial": "h", "k": 5}
    with contextlib.suppress(*BROKEN, TimeoutError), site.talk() as talk:
        widget = json.loads(talk.recv(60))["start"]["widget"]
        for _ in range(20):
            talk.send(json.dumps({"content": said, "buffers": 0}))
            waits = name == "ann" or messages.kind_of(said) == "hello"
            for answer in until_answered(site, talk, said) if waits else ():
                if messages.kind_of(said) in ("act", "vote") and messages.acknowledges(answer, said):
                    pair = said["pair"] if said["kind"] == "act" else said["names"]
                    site.acknowledged.append(messages.told(said, name, pair))
                if answer.get("pictures"):
                    pairs = answer["place"], [each["name"] for each in answer["pictures"]]
            if widget == "tagger" and not pairs:
                return
            said = next_message(site, widget, name, pairs)
            if name == "mal" and site.rng.random() < 0.5:
                said = messages.malformed(site.rng, said)


def next_message(site: Site, widget: str, name: str, pairs: tuple | None) -> dict:
    """What a person does next on this page: a grade of the pair that is shown, or a search, or a vote."""
    rng = site.rng
    if widget == "search_page":
        said = {"kind": "upload"}
        while said["kind"] == "upload":  # pictures are for ``odd_upload``
            said = messages.searching(rng, site.case.base.names) | {"name": name}
        return said
    act = site.case.one_of(["grade", "grade", "skip", "unsure"])
    return {"kind": "act", "place": pairs[0], "pair": pairs[1], "act": act, "seconds": 1.0, "answers": "",
            "serial": f"s{rng.integers(10**9)}", **({"grade": int(rng.integers(4))} if act == "grade" else {})}


def until_answered(site: Site, talk, said: dict) -> list[dict]:
    """The server's answers up to the one that ends this message."""
    ends = {"hello": ("open", "state"), "want": ("picture",), "vote": ("voted",), "act": ("state",)}
    answers = []
    while True:
        received = talk.recv(30)
        if isinstance(received, bytes) or "content" not in (told := json.loads(received)):
            continue
        answers.append(told["content"])
        if told["content"].get("kind") in (*ends.get(said["kind"], ("results", "state")), "error"):
            return answers


@STRANGE.register("sound_talk")
def sound_talk(site: Site) -> None:
    """A person who grades or searches, and waits for each answer."""
    page_talks(site, "ann")


@STRANGE.register("malformed_talk")
def malformed_talk(site: Site) -> None:
    """The page's messages, some of them malformed, and nobody waits for the answers."""
    page_talks(site, "mal")


@attack("server", share=0.16)
def server(case: Case) -> None:
    """`serve` or `tag` under strange requests, then ended: answers to the last, an exact journal, nothing left."""
    case.copy()
    before = Journal(case.home / JOURNAL).acts()
    pages = [("serve", "--study", STUDY)]
    pages += [("tag", STUDY)] if (case.home / f"active_learning_labels/{STUDY}/round_00/pairs.csv").is_file() else []
    site = Site(case, case.one_of(pages))
    process = psutil.Process(site.command.pid)
    until = time.monotonic() + 60
    while b'"ready"' not in (health := site.ask("GET", "/api/health"))[1] and time.monotonic() < until:
        time.sleep(0.1)
    began = process.memory_info().rss / 1e6
    for _ in range(25):
        name = case.one_of(STRANGE)
        case.did.append(name)
        STRANGE[name](site)
        site.read()
    health = site.ask("GET", "/api/health")
    if health[0] != 200 or b'"ready"' not in health[1]:
        case.fall(f"after strange requests /api/health says {health[0]} {health[1][:100]!r}")
    if (grown := process.memory_info().rss / 1e6 - began) > GROWTH_MB:
        case.fall(f"the server grew by {grown:.0f} MB in 25 strange requests")
    exact_journal(site, before)
    for connection in site.open[:: case.one_of([1, 2, 10**9])]:
        connection.close()
    end(site)


def exact_journal(site: Site, before: list) -> None:
    """Each acknowledged act stands in the journal as often as it was acknowledged, and what stood there stands."""
    acts = Journal(site.case.home / JOURNAL).acts()
    if acts[: len(before)] != before:
        site.case.fall("the server changed acts that stood in the journal")
    found = [(act.annotator, act.image1, act.image2, act.act, act.grade) for act in acts[len(before) :]
             if act.annotator == "ann"]
    standing, expected = {}, []
    for act in site.acknowledged:
        if act[3] in ("grade", "skip", "unsure") or standing.get(act[1:3], "unvote") != act[3]:  # else it stands so
            expected.append(act)
        standing[act[1:3]] = act[3]
    if found[: len(expected)] != expected or len(found) > len(expected) + 1:
        odd = next((pair for pair in zip(expected, found) if pair[0] != pair[1]), (len(expected), len(found)))
        site.case.fall(f"acknowledged acts and the journal differ: {odd[0]}, {odd[1]}")


def end(site: Site) -> None:
    """Stop the server by a signal: at once, with its log clean, its port free and nothing left."""
    case, number = site.case, site.case.one_of([signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
    site.command.send(number)
    done = site.command.wait(20)
    log = site.log + done.out + done.err
    if "Traceback (most recent call last)" in log or "Exception in" in log:
        lines = [line for line in log.splitlines() if re.match(r"[\w.]+(Error|Exception|Disconnect|Interrupt)", line)]
        case.fall(f"a traceback in the log of {done.line.split()[1]}: {(lines or ['?'])[-1][:150]}")
        case.did.append(log[-3000:])
    if done.late:
        case.fall(f"the server did not end in 20 s after signal {number}")
    elif done.status != (-number if number == signal.SIGKILL else 0):
        case.fall(f"the server ended with status {done.status} after signal {number}")
    case.orphans(f"the server after signal {number}")
    with socket.socket() as probe:
        probe.settimeout(2)
        if not probe.connect_ex(("127.0.0.1", site.port)):
            case.fall("the port is still answered after the server's end")
    if number != signal.SIGKILL:
        case.temporary_files(f"the server after signal {number}")
