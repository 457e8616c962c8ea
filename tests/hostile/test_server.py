"""The server of the pages under hostile use: forged requests, floods, signals; by the commands, as
they are used.
"""

import contextlib
import http.client
import io
import json
import logging
import signal
import socket
import stat
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from imgsearch_utils import workspace
from imgsearch_utils.web.connections import Counted
from imgsearch_utils.web.server_address import Server
from tests import tiny_study
from tests.tiny_study import command, living_in
from tests.web.chromium import browser, needs_chromium

pytestmark = pytest.mark.server  # several servers are started, each in a process of its own


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("server")
    run = tiny_study.make(folder)
    with living_in(folder):
        images = pd.read_csv(run.labels / "images.csv").image
        pairs = pd.DataFrame(
            {
                "image1": images[:10],
                "image2": images[1:11].to_numpy(),
                "similarity": float("nan"),
                "automatic": False,
                "strategy": "random",
                "side": "train",
            }
        )
        workspace.write_atomic(run.labels / "round_00" / "pairs.csv", pairs.to_csv(index=False))
        (run.results / "tagging").mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def server(home):
    with browser.ServedPage(home, "serve", "--study=tiny") as server:
        until = time.monotonic() + 120
        while ask(server, "/api/health")[2].get("status") != "ready" and time.monotonic() < until:
            time.sleep(0.1)
        yield server


def ask(
    server,
    path: str,
    method: str = "GET",
    body: bytes | None = None,
    token: str | None = "own",
    **headers,
):
    """Status, headers and JSON (or text) of an answer; `token` None for none."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if token:
        given["Authorization"] = f"Bearer {server.token if token == 'own' else token}"
    connection.request(method, path, body, given)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    try:
        return answer.status, dict(answer.getheaders()), json.loads(content)
    except ValueError:
        return answer.status, dict(answer.getheaders()), content.decode()


def talk(server, path="/talk", **headers):
    given = {"Authorization": f"Bearer {server.token}", **headers}
    return connect(
        f"ws://127.0.0.1:{server.port}{path}",
        additional_headers=given,
        proxy=None,
        origin=given.pop("Origin", None),
    )


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/page.js",
        "/search_page.js",
        "/api/health",
        "/api/docs",
        "/api/openapi.json",
        "/api/docs-files/swagger-ui.css",
        "/map",
        "/map_page.js",
        "/plotly.min.js",
        "/nothing",
    ],
)
def test_every_route_needs_the_token(server, path):
    assert ask(server, path, token=None)[0] == 401
    assert ask(server, path, token="x" * 32)[0] == 401
    assert (
        ask(server, path, token="\udce9".encode("utf-8", "surrogateescape").decode("latin-1"))[0]
        == 401
    )
    assert ask(server, path)[0] == (404 if path == "/nothing" else 200)


def test_the_first_visit_keeps_the_token_as_a_strict_cookie_and_leaves_it_out_of_the_address(
    server,
):
    status, headers, _ = ask(server, f"/?token={server.token}", token=None)
    assert (status, headers["location"]) == (303, "/")
    cookie = headers["set-cookie"]
    assert cookie.startswith(f"imgsearch-{server.port}=")
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower()
    assert ask(server, "/", token=None, Cookie=cookie.split(";")[0])[0] == 200
    assert ask(server, "/?token=wrong", token=None)[0] == 401
    # a page's address alone may hold it
    assert ask(server, f"/api/health?token={server.token}", token=None)[0] == 401


@needs_chromium
def test_a_page_that_is_come_to_from_another_site_opens(server, tmp_path):
    (tmp_path / "link.html").write_text(f'<a href="{server.url}">the page</a>')
    with browser.browser_page() as page:
        page.goto((tmp_path / "link.html").as_uri())
        page.get_by_text("the page").click()
        page.locator(".sp-root").wait_for()
        assert page.url == server.address


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1.evil.example:{port}",
        "",
        "[::2]",
        "127.0.0.1@evil.example",
        "localhost:80:80",
    ],
)
def test_a_forged_host_is_refused(server, host):
    assert ask(server, "/", Host=host.format(port=server.port))[0] == 400
    with pytest.raises(InvalidStatus):
        talk(server, Host=host.format(port=server.port))


@pytest.mark.parametrize(
    "host", ["localhost:{port}", "127.0.0.1:{port}", "[::1]:{port}", "LOCALHOST"]
)
def test_names_of_this_machine_are_served(server, host):
    assert ask(server, "/", Host=host.format(port=server.port))[0] == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://127.0.0.1:1",
        "https://127.0.0.1:{port}",
        "http://localhost:{port}",
        "",
    ],
)
def test_a_forged_origin_is_refused_for_acts_and_for_a_websocket(server, origin):
    origin = origin.format(port=server.port)
    question = json.dumps({"image": "modern/modern_0001.jpg"}).encode()
    sent = {"Content_Type": "application/json", "Origin": origin}
    assert ask(server, "/api/search", "POST", question, **sent)[0] == 403
    for path in ("/talk", "/map/talk"):
        with pytest.raises(InvalidStatus):
            talk(server, path, Origin=origin)


def test_the_own_origin_is_served(server):
    origin = f"http://127.0.0.1:{server.port}"
    status, headers, answer = ask(
        server,
        "/api/search",
        "POST",
        b'{"image": "nobody"}',
        Origin=origin,
        Content_Type="application/json",
    )
    assert (
        status == 400
        and "nobody" in answer["error"]
        and "access-control-allow-origin" not in headers
    )
    with talk(server, Origin=origin) as socket:
        assert "start" in json.loads(socket.recv())


def test_a_websocket_needs_the_token_and_no_subprotocol(server):
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Cookie": f"imgsearch-{server.port}=wrong"},
    ):
        for path in ("/talk", "/map/talk"):
            with pytest.raises(InvalidStatus):
                connect(
                    f"ws://127.0.0.1:{server.port}{path}", additional_headers=headers, proxy=None
                )
    with talk(server, "/map/talk") as socket:
        assert json.loads(socket.recv())["start"]["widget"] == "map_page"
    with talk(server) as socket:
        assert json.loads(socket.recv())["start"]["widget"] == "search_page"
        socket.send(json.dumps({"content": {"kind": "hello", "name": "ann"}, "buffers": 0}))
        answer = json.loads(socket.recv())
        assert (answer["content"]["kind"], answer["content"]["run"], answer["buffers"]) == (
            "open",
            "tiny",
            0,
        )


def test_answers_forbid_frames_foreign_scripts_and_guessing(server):
    for path in ("/", "/api/health", "/page.js", "/nothing"):
        headers = ask(server, path)[1]
        policy = headers["content-security-policy"]
        assert (
            "default-src 'none'" in policy
            and "frame-ancestors 'none'" in policy
            and "unsafe" not in policy
        )
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == (
            "nosniff",
            "no-referrer",
        )
        assert "server" not in headers


NONSENSE = [
    "",
    "x",
    "[]",
    "{}",
    "1",
    '"ping"',
    '{"content": 1}',
    '{"content": {}, "buffers": "x"}',
    "[" * 100_000,
    '{"content": {"kind": "nothing"}, "buffers": 0}',
    '{"content": [], "buffers": 0}',
    b"\x00\xff",
    '{"content": {"kind": ["hello"]}, "buffers": 0}',
    '{"content": {"kind": "like", "row": -1, "name": ""}, "buffers": 0}',
    '{"content": {"kind": "like", "row": 1e999, "name": "\\ud800"}, "buffers": 0}',
    '{"content": {"kind": "vote", "query": 0, "row": 99999, "vote": "up", "name": "a"}, '
    '"buffers": 0}',
    '{"content": {"kind": "want", "rows": ["../../etc/passwd"], "large": true}, "buffers": 0}',
    '{"content": {"kind": "more", "k": NaN, "name": "a"}, "buffers": 0}',
]


@pytest.mark.parametrize("message", NONSENSE, ids=range(len(NONSENSE)))
def test_a_message_that_is_nonsense_is_answered_or_ends_that_page_alone(server, message):
    log = (server.folder / "page.log").read_text()
    with talk(server) as socket:
        socket.recv()
        socket.send(json.dumps({"content": {"kind": "hello", "name": "ann"}, "buffers": 0}))
        socket.recv()
        socket.send(message)
        try:
            answer = json.loads(socket.recv(timeout=30))
            assert answer["content"]["kind"] == "error" and "\n" not in answer["content"]["line"]
        except ConnectionClosed as closed:
            assert closed.rcvd.code in (1000, 1003, 1009)
    assert ask(server, "/api/health")[0] == 200
    assert (server.folder / "page.log").read_text() == log, (
        "nothing is to be said on the server's side"
    )


@pytest.mark.parametrize("serial", ["NaN", "-Infinity", "1e999", "null", '["a"]', "{}"])
def test_a_vote_that_no_answer_could_acknowledge_is_not_written(server, home, serial):
    journal = home / "active_learning_labels" / "tiny" / "journal.csv"
    with talk(server) as socket:
        socket.recv()
        socket.send(json.dumps({"content": {"kind": "hello", "name": "ann"}, "buffers": 0}))
        one, two = json.loads(socket.recv())["content"]["samples"][:2]
        vote = {
            "kind": "vote",
            "query": one["row"],
            "row": two["row"],
            "names": [one["name"], two["name"]],
            "vote": "up",
            "name": "ann",
            "serial": "this",
        }
        socket.send(json.dumps({"content": vote, "buffers": 0}).replace('"this"', serial))
        try:
            assert json.loads(socket.recv(timeout=30))["content"]["kind"] == "error"
        except ConnectionClosed as closed:
            assert closed.rcvd.code == 1003
    assert not journal.is_file() or "vote_up" not in journal.read_text()


def test_the_next_page_after_sixty_four_is_told_so(server):
    open_ = []
    try:
        for _ in range(64):
            open_.append(talk(server))
            open_[-1].recv()
        with talk(server) as socket, pytest.raises(ConnectionClosed) as closed:
            socket.recv()
        assert (
            closed.value.rcvd.code == 1013
            and "64 pages are open already" in closed.value.rcvd.reason
        )
    finally:
        for socket in open_:
            socket.close()
    until = time.monotonic() + 10
    while time.monotonic() < until:  # until the server has seen them go
        with talk(server) as socket:
            try:
                assert socket.recv()
                return
            except ConnectionClosed:
                time.sleep(0.05)
    raise AssertionError("no page can be opened any more")


def test_a_body_that_is_too_long_is_cut_off_while_it_is_read(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw:
        head = [
            f"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1:{server.port}",
            f"Authorization: Bearer {server.token}",
            "Content-Type: image/png",
            "Transfer-Encoding: chunked",
            "",
            "",
        ]
        raw.sendall("\r\n".join(head).encode())
        chunk, sent = b"%x\r\n%s\r\n" % (1_000_000, b"0" * 1_000_000), 0
        raw.settimeout(0.01)
        answer = b""
        while sent < 200 and not answer:
            try:
                raw.settimeout(60)
                raw.sendall(chunk)
                sent += 1
                raw.settimeout(0.001)
                answer = raw.recv(1000)
            except TimeoutError:
                continue
            except OSError:
                break
        raw.settimeout(10)
        with contextlib.suppress(OSError):
            answer = answer or raw.recv(1000)
    assert sent < 60 and (not answer or b" 413 " in answer.splitlines()[0])
    assert ask(server, "/api/search", "POST", b"0" * 20_500_000, Content_Type="image/png")[2][
        "error"
    ].startswith("more than 20 MB")
    too_long = {"Content_Type": "image/png", "Content_Length": "99000000000"}
    assert ask(server, "/api/search", "POST", b"", **too_long)[0] == 413
    with talk(server) as socket_, pytest.raises(ConnectionClosed):
        socket_.recv()
        socket_.send("x" * 3_000_000)
        socket_.recv()


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        (b"no picture", "image/png", "not a picture that can be read"),
        (b"", "image/png", "an empty file"),
        (b"{", "application/json", "JSON"),
        (b"[]", "application/json", "JSON"),
        (b'{"image": 1}', "application/json", "image"),
        (b'{"image": "a", "words": "b"}', "application/json", "no vector, first: 'a'"),
        (
            b'{"image": "modern/modern_0001.jpg", "words": "b"}',
            "application/json",
            "words need an open_clip encoder",
        ),
        (
            b'{"unlike": [{"image": "modern/modern_0001.jpg"}]}',
            "application/json",
            "ask with a picture",
        ),
        (b'{"like": [{"image": "a", "picture": "aGFsbG8="}]}', "application/json", "one of two"),
        (b'{"like": [{}]}', "application/json", "one of two"),
        (b'{"like": [{"picture": "***"}]}', "application/json", "one of two"),
        (b'{"like": [{"picture": "abc"}]}', "application/json", "like.0.picture"),
        (
            b'{"like": [{"picture": "aGFsbG8="}]}',
            "application/json",
            "not a picture that can be read",
        ),
        (b'{"like": ["modern/modern_0001.jpg"]}', "application/json", "like.0"),
        (
            b'{"like": [' + b",".join([b'{"image": "a"}'] * 21) + b"]}",
            "application/json",
            "at most 20 examples, got 21",
        ),
        (b'{"image": "modern/modern_0001.jpg", "k": 0}', "application/json", "k must be 1 to 1000"),
        (b'{"image": "modern/modern_0001.jpg", "k": 1e99}', "application/json", "k"),
        (b'{"image": "../../secret", "k": 1}', "application/json", "secret"),
        (
            b'{"image": "modern/modern_0001.jpg", "model": "haed"}',
            "application/json",
            "Did you mean head",
        ),
        *(
            (
                json.dumps({"image": "modern/modern_0001.jpg", "where": where}).encode(),
                "application/json",
                "no condition that can be asked",
            )
            for where in ("'abc'", "NULL", "9e300", "x'00'", "instr(hex(zeroblob(99)), 'b') > 0")
        ),
        (b'{"words": "a house"}', "application/json", "words need an open_clip encoder"),
        (b"--x\r\n", "multipart/form-data; boundary=x", ""),
        (b"--x--\r\n", "multipart/form-data; boundary=x", "no file called picture"),
        (b"", "multipart/form-data", ""),
    ],
)
def test_a_question_that_cannot_be_answered_is_one_line(server, body, kind, says):
    status, _, answer = ask(server, "/api/search", "POST", body, Content_Type=kind)
    assert status == 400, answer
    line = answer.get("error", answer.get("detail"))
    assert says in line and "\n" not in line and str(server.folder) not in line


def test_programs_get_the_answers_of_the_command(server, home, monkeypatch):
    picture = tiny_study.picture_of(home, tiny_study.HOUSES[3])
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    by_server = command(home, "search", picture, "--server", server.address, "-k", 5, "--json")
    alone = command(home, "search", picture, "--study", "tiny", "-k", 5, "--json")
    assert by_server.returncode == alone.returncode == 0, by_server.stderr + alone.stderr
    theirs, ours = json.loads(by_server.stdout), json.loads(alone.stdout)
    rows = zip(theirs["queries"][0].pop("results"), ours["queries"][0].pop("results"), strict=True)
    for one, two in rows:
        assert [one.pop(name) for name in ("score", "p_similar")] == pytest.approx(
            [two.pop(name) for name in ("score", "p_similar")], abs=1e-3
        )
        assert one == two
    assert theirs == ours
    named = Server(server.url).ask(
        "search", {"image": "modern/modern_0001.jpg", "k": 3, "expand": 2}
    )
    assert named["results"][0]["image"] == "modern/modern_0001.jpg" and named["threshold"] > 0
    classes = Server(server.url).ask("classify", picture.read_bytes())["classes"]
    assert {row["method"] for row in classes} == {"neighbours", "linear probe", "ImageNet"}
    assert Server(server.url).ask("health")["pictures"] == 36
    for url, says in (
        (f"http://127.0.0.1:{browser.free_port()}/?token=x", "no server answers"),
        (f"{server.address}?token=wrong", "token"),
        ("ftp://x", "must be an address"),
        (f"http://127.0.0.2:{server.port}/", "no server of yours is known"),
    ):
        refused = command(home, "search", picture, "--server", url)
        assert (
            refused.returncode == 1
            and says in refused.stderr
            and len(refused.stderr.splitlines()) == 1
        )


@needs_chromium
def test_the_page_of_the_interface_needs_nothing_from_elsewhere(server):
    with browser.browser_page() as page:
        elsewhere, said = [], []
        page.on(
            "request",
            lambda request: request.url.startswith(server.address) or elsewhere.append(request.url),
        )
        page.on("console", lambda message: said.append(message.text))
        page.goto(server.url)
        page.goto(f"{server.address}api/docs")
        page.get_by_text("/api/search", exact=True).wait_for()
        assert not [url for url in elsewhere if not url.startswith(("data:", "blob:"))]
        assert not [text for text in said if "Content Security Policy" in text]


def test_a_thousand_visits_leave_memory_bounded(server, capsys):
    process = psutil.Process(server.process.pid)
    for _ in range(20):
        ask(server, "/")
    before = process.memory_info().rss
    for _ in range(1000):
        assert ask(server, "/")[0] == 200
    after = process.memory_info().rss
    with capsys.disabled():
        print(
            f"\nmemory of the server: {before / 1e6:.0f} MB, after 1,000 visits "
            f"{after / 1e6:.0f} MB"
        )
    assert after - before < 20e6 and not process.children(recursive=True)


def test_the_file_with_the_token_is_this_users_alone(server):
    files = sorted((server.folder / "state" / "imgsearch" / "servers").iterdir())
    assert [file.name for file in files] == [f"{server.port}.html", f"{server.port}.json"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    about = json.loads(files[1].read_text())
    assert (about["token"], about["pid"], about["port"]) == (
        server.token,
        server.process.pid,
        server.port,
    )
    assert server.token not in " ".join(psutil.Process(server.process.pid).cmdline())


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize(
    ("page", "number"),
    [
        (("tag", "tiny"), signal.SIGINT),
        (("tag", "tiny"), signal.SIGKILL),
        (("serve", "--study=tiny"), signal.SIGTERM),
        (("serve", "--study=tiny"), signal.SIGHUP),
    ],
    ids=lambda given: given[0] if isinstance(given, tuple) else given.name,
)
def test_a_signal_ends_it_at_once_with_nothing_left(home, page, number):
    server = browser.ServedPage(home, *page).start()
    with talk(server) as one, talk(server) as two:
        assert "start" in json.loads(one.recv()) and "start" in json.loads(two.recv())
        started = psutil.Process(server.process.pid)
        assert not started.children(recursive=True)
        begun = time.monotonic()
        server.process.send_signal(number)
        status = server.process.wait(20)
        taken = time.monotonic() - begun
    assert status == (-9 if number == signal.SIGKILL else 0)
    assert taken < 5 and not started.is_running() and _free(server.port)
    left = list((home / "state" / "imgsearch" / "servers").glob(f"{server.port}.*"))
    assert bool(left) == (number == signal.SIGKILL)
    assert "Traceback" not in (home / "page.log").read_text()
    for file in left:
        file.unlink()


def test_clients_that_vanish_or_never_end_leave_no_traceback(home):
    """An upload that breaks off, one that is still coming when the server stops, nonsense from who
    is gone at once.
    """
    server = browser.ServedPage(home, "serve", "--study=tiny").start()
    head = "\r\n".join(
        [
            f"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1:{server.port}",
            f"Authorization: Bearer {server.token}",
            "Content-Type: image/png",
            "Content-Length: 90000",
            "",
            "half",
        ]
    ).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as gone:
        gone.sendall(head)
    for _ in range(20):
        with talk(server) as nonsense:
            nonsense.send("no JSON")
    with socket.create_connection(("127.0.0.1", server.port)) as coming:
        coming.sendall(head)
        assert ask(server, "/api/health")[0] == 200  # what came before was read
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
    assert "Traceback" not in (home / "page.log").read_text()


@pytest.mark.parametrize("says", [b"", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"])
def test_connections_without_a_token_leave_room_for_those_that_have_one(server, home, says):
    """As many as a process may have files open, and more: silent, or never at their end."""
    resource = pytest.importorskip("resource")
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (1024, 1024))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= limits[1] < 2000:
        pytest.skip("needs 2,000 open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2000, limits[1]))
    log_before = (home / "page.log").stat().st_size
    with contextlib.ExitStack() as held, talk(server) as page:
        page.recv()
        for _ in range(1300):
            one = held.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            with contextlib.suppress(OSError):
                one.sendall(says)
        assert ask(server, "/api/health")[0] == 200
        page.send('{"ping": 1}')
        while "pong" not in json.loads(page.recv(20)):
            pass
        assert psutil.Process(server.process.pid).num_fds() < 512
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert (home / "page.log").stat().st_size - log_before < 10_000


def test_a_line_that_repeats_is_counted():
    logger, written = logging.getLogger("counted"), io.StringIO()
    logger.addHandler(logging.StreamHandler(written))
    logger.addFilter(Counted())
    for number in range(10_000):
        logger.warning("no room for %s", number)
    lines = written.getvalue().splitlines()
    assert lines[:3] == [f"no room for {number}" for number in range(3)]
    assert len(lines) == 7 and lines[-1] == "no room for 9999 (10,000 times by now)"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            ("serve", "--study", "tiny", "--ip", "999.1.1.1"),
            "--ip must be an address of this machine",
        ),
        (("serve", "--study", "tiny", "--ip", "203.0.113.7"), "cannot listen on 203.0.113.7"),
        (
            ("serve", "--study", "tiny", "--ip", "0.0.0.0"),
            "give the one by which others reach this machine",
        ),
        (("tag", "tiny", "--queue", "nope"), "no queue is called 'nope'"),
        (("tag", "tiny", "--round", "99"), "has no pairs of round 99 yet"),
        (("tag", "tiny", "--round", "1"), "has no pairs of round 1 yet"),
        (("serve", "--study", "tiny", "--run", "nobody"), "no run is called nobody"),
        (("tag", "tiny", "--queue", "votes"), "no pair to show"),
    ],
)
def test_what_cannot_be_served_is_one_line_and_status_1(home, given, says):
    ended = command(home, *given, "--no-browser", "--port", browser.free_port())
    assert ended.returncode == 1 and says in ended.stderr and len(ended.stderr.splitlines()) == 1, (
        ended.stderr
    )


def test_a_port_in_use_is_refused(home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = command(home, "serve", "--study", "tiny", "--port", port, "--no-browser")
    assert ended.returncode == 1
    assert (
        ended.stderr
        == f"imgsearch: port {port} is in use; stop what listens there, or give --port\n"
    )
