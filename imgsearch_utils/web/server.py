"""A page as a web site: its files, its talk over a WebSocket, and answers to programs as JSON."""

import asyncio
import contextlib
import functools
import html
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import anyio
import fastapi_offline
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, ValidationError

HERE = Path(__file__).parent
FILES = (
    "page.js",
    "page.css",
    "tagger.js",
    "tagger.css",
    "comparison_page.js",
    "comparison_page.css",
    "search_page.js",
    "search_page.css",
    "map_page.js",
    "map_page.css",
    "docs.js",
)
MOST_PAGES = 64  # open at once
WAITING = 24  # messages of a page that are not answered yet; then it is read no further
UNSENT = 1000  # messages that a page does not take; then it is closed
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="icon" href="data:,">
<link rel="stylesheet" href="/page.css"><link rel="stylesheet" href="/{widget}.css">
<script type="module" src="/page.js"></script></head>
<body><main><h1 class="unseen">{title}</h1><div id="page" data-talk="{talk}"></div></main>
<div id="notice" role="alert" hidden></div></body></html>
"""
DOCS = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Image search: questions as HTTP</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="/api/docs-files/swagger-ui.css">
<script defer src="/api/docs-files/swagger-ui-bundle.js"></script>
<script defer src="/docs.js"></script></head>
<body><div id="swagger-ui"></div></body></html>
"""


class Options(BaseModel):
    """How a search is done."""

    model_config = ConfigDict(extra="forbid", strict=True)
    k: int = 10
    model: str = ""
    expand: int = 0
    rerank: str = ""
    crops: int = 1
    where: Annotated[str, Field(max_length=300)] = ""


class Example(BaseModel):
    """One of the run's images by name, or a file's content in base64."""

    model_config = ConfigDict(extra="forbid", strict=True)
    image: str = ""
    picture: Base64Bytes = b""


class Question(Options):
    """What a program may ask as JSON: an image by name, words, further examples of what is looked
    for and what not.
    """

    image: str = ""
    words: str = ""
    like: list[Example] = []
    unlike: list[Example] = []


class NoOptions(BaseModel):
    """Nothing can be chosen."""

    model_config = ConfigDict(extra="forbid", strict=True)


class WhichImage(NoOptions):
    """The image whose class is asked."""

    image: str


@dataclass
class Site:
    """A page that is served.

    title : of the browser's tab
    widget : the name of its .js and .css
    state : what the widget's ``model.get`` gives
    command : what starts it again
    open : opens what the page needs; takes a while, so it runs while the page is shown already
    talk : (what was opened, send) -> the page's other side, with a method receive(message, buffers)
    health : what was opened -> what a program is told of it
    api : whether what was opened is a ``Service`` that programs may ask
    beside : further pages by their names in the address, which share what was opened
    scripts : JavaScript of libraries that its pages load, by their names in the address
    """

    title: str
    widget: str
    state: dict[str, Any]
    command: str
    open: Callable[[], Any]
    talk: Callable[[Any, Callable[..., None]], Any]
    health: Callable[[Any], dict[str, Any]]
    api: bool = False
    beside: dict[str, "Site"] = field(default_factory=dict)
    scripts: dict[str, Path] = field(default_factory=dict)
    opened: Future = field(default_factory=Future)

    def start(self, failed: Callable[[], None]) -> None:
        """Begin to open in a thread that ends with the process; call `failed` where it cannot be
        opened.
        """

        def run() -> None:
            try:
                self.opened.set_result(self.open())
            except Exception as error:
                self.opened.set_exception(error)
                failed()

        threading.Thread(target=run, daemon=True).start()


def build(site: Site) -> FastAPI:
    """The web application of a site, without its guard."""
    app = FastAPI(
        title=site.title,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        description="Every question needs the server's token: `Authorization: Bearer ...`, or "
        "the cookie.",
    )

    for path, one in {
        "/": site,
        **{f"/{name}": each for name, each in site.beside.items()},
    }.items():
        talk = f"{path.rstrip('/')}/talk"
        page = PAGE.format(title=html.escape(one.title), widget=one.widget, talk=talk)
        app.get(path, include_in_schema=False)(lambda page=page: HTMLResponse(page))
        app.add_api_websocket_route(talk, PageSocket(one))
    for name, file in {**{name: HERE / name for name in FILES}, **site.scripts}.items():
        app.get(f"/{name}", include_in_schema=False)(lambda file=file: FileResponse(file))

    @app.get("/api/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(DOCS)

    @app.get("/api/health", summary="Whether it answers, and what it holds")
    async def health() -> dict[str, Any]:
        ready = site.opened.done() and not site.opened.exception()
        return (
            {"status": "ready", **site.health(site.opened.result())}
            if ready
            else {"status": "opening"}
        )

    files = Path(fastapi_offline.__file__).with_name("static")
    app.mount("/api/docs-files", StaticFiles(directory=files))
    if site.api:
        _add_questions(app, site)
    return app


class PageSocket:
    """The WebSocket of a page: JSON, each message followed by its buffers as binary frames."""

    def __init__(self, site: Site):
        self._site, self._open = site, 0

    async def __call__(self, socket: WebSocket) -> None:
        await socket.accept()
        if self._open >= MOST_PAGES:
            return await socket.close(
                1013, f"{MOST_PAGES} pages are open already; close one of them"
            )
        self._open += 1
        try:
            await PageSession(self._site, socket).run()
        finally:
            self._open -= 1


class PageSession:
    """One page that is open: what keeps it alive is answered at once, the rest one message after
    the other.
    """

    def __init__(self, site: Site, socket: WebSocket):
        self._site, self._socket = site, socket
        self._asked: asyncio.Queue = asyncio.Queue(WAITING)
        self._answers: asyncio.Queue = asyncio.Queue()
        # of its own: a page that waits keeps no other waiting
        self._thread = anyio.CapacityLimiter(1)
        self._ended = False

    async def run(self) -> None:
        """Talk until one side ends; an act that is being written then is written to its end."""
        site = self._site
        self._send(
            {
                "start": {
                    "widget": site.widget,
                    "state": site.state,
                    "title": site.title,
                    "command": site.command,
                }
            }
        )
        reading, writing, answering = (
            asyncio.ensure_future(each) for each in (self._read(), self._write(), self._answer())
        )
        try:
            done, _ = await asyncio.wait(
                [reading, writing, answering], return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
        except (ValueError, TypeError, KeyError, RecursionError):
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # who may be gone already
                await self._socket.close(1003, "not a message of this page")
        except (WebSocketDisconnect, RuntimeError):  # gone, also while something was being sent
            pass
        finally:
            await self._end(reading, writing, answering)

    async def _end(self, reading, writing, answering) -> None:
        self._ended = True
        reading.cancel()
        writing.cancel()
        for queue in (self._asked, self._answers):
            while not queue.empty():
                queue.get_nowait()
                queue.task_done()
        self._asked.put_nowait(None)
        if not self._site.opened.done():
            answering.cancel()
        await asyncio.gather(reading, writing, answering, return_exceptions=True)

    async def _read(self) -> None:
        while True:
            message = json.loads(await self._socket.receive_text(), parse_constant=_no_number)
            if message == {"ping": 1}:
                self._send({"pong": 1})
                continue
            buffers = [
                await self._socket.receive_bytes()
                for _ in range(min(int(message["buffers"]), WAITING))
            ]
            await self._asked.put((message["content"], buffers))

    async def _answer(self) -> None:
        opened = await asyncio.shield(asyncio.wrap_future(self._site.opened))
        other = await self._in_thread(self._site.talk, opened, self._reply)
        while asked := await self._asked.get():
            await self._in_thread(other.receive, *asked)

    async def _in_thread(self, function: Callable, *arguments) -> Any:
        return await anyio.to_thread.run_sync(function, *arguments, limiter=self._thread)

    def _reply(self, content: dict, buffers: Sequence[bytes] = ()) -> None:
        """Called in a thread: send soon, or, where there are buffers, wait until they are sent."""
        said = ({"content": content, "buffers": len(buffers)}, *buffers)
        if buffers:
            anyio.from_thread.run(self._sent, said)
        else:
            anyio.from_thread.run_sync(self._send, *said)

    async def _sent(self, said: Sequence) -> None:
        self._send(*said)
        await self._answers.join()

    def _send(self, head: dict, *buffers: bytes) -> None:
        # who does not take so many is closed, see `_write`
        if not self._ended and self._answers.qsize() < UNSENT:
            self._answers.put_nowait((head, buffers))

    async def _write(self) -> None:
        while self._answers.qsize() < UNSENT:
            head, buffers = await self._answers.get()
            try:
                await self._socket.send_text(json.dumps(head))
                for buffer in buffers:
                    await self._socket.send_bytes(buffer)
            finally:
                self._answers.task_done()
        await self._socket.close(1008, "the page does not take its answers")


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no number that a page sends")


def _add_questions(app: FastAPI, site: Site) -> None:
    threads = anyio.CapacityLimiter(MOST_PAGES)

    async def answer(
        request: Request, question: type[BaseModel], options: type[BaseModel], ask: str
    ) -> JSONResponse:
        try:
            asked = await _question(request, question, options)
            service = await asyncio.shield(asyncio.wrap_future(site.opened))
            answered = functools.partial(getattr(service, ask), **asked)
            return JSONResponse(await anyio.to_thread.run_sync(answered, limiter=threads))
        except ValidationError as error:
            wrong = error.errors()[0]
            line = f"{'.'.join(map(str, wrong['loc'])) or 'JSON'}: {wrong['msg']}"
        except ValueError as error:
            line = " ".join(str(error).split())
        except service_errors() as error:
            return JSONResponse({"error": str(error)}, 503, {"Retry-After": "1"})
        return JSONResponse({"error": line}, 400)

    def service_errors() -> type[Exception]:  # torch is loaded by now
        from imgsearch_utils.search.service import Busy

        return Busy

    @app.post(
        "/api/search",
        openapi_extra=_body(Question, Options),
        summary="The images most like a picture (a form, or its bytes), or like an image by "
        "name, words, several "
        "examples together, and unlike others (JSON)",
    )
    async def search(request: Request) -> JSONResponse:
        return await answer(request, Question, Options, "search")

    @app.post(
        "/api/classify",
        openapi_extra=_body(WhichImage, NoOptions),
        summary="The class of a picture (a form, or its bytes), or of an image by name",
    )
    async def classify(request: Request) -> JSONResponse:
        return await answer(request, WhichImage, NoOptions, "classify")


def _body(question: type[BaseModel], options: type[BaseModel]) -> dict[str, Any]:
    """What a request may hold, for the page of the interface."""
    file = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "required": ["picture"],
        "properties": {"picture": file, **options.model_json_schema().get("properties", {})},
    }
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": form},
                "application/octet-stream": {"schema": file},
                "application/json": {"schema": question.model_json_schema()},
            },
        }
    }


def _example(asked: Example) -> bytes | str:
    if bool(asked.image) == bool(asked.picture):
        raise ValueError(
            "an example is one of two: an image by name, or a picture's bytes in base64"
        )
    return asked.image or asked.picture


async def _question(
    request: Request, question: type[BaseModel], options: type[BaseModel]
) -> dict[str, Any]:
    """What is asked: as JSON, as a form with a picture, or as a picture's bytes with options in the
    address.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        asked = dict(question.model_validate_json(await request.body()))
        return {
            name: list(map(_example, value)) if isinstance(value, list) else value
            for name, value in asked.items()
        }
    parameters = dict(request.query_params)
    if kind == "multipart/form-data":
        async with request.form(max_files=1, max_fields=10) as form:
            parameters |= {name: value for name, value in form.items() if isinstance(value, str)}
            upload = form.get("picture")
            if upload is None or isinstance(upload, str):
                raise ValueError("the form has no file called picture")
            picture = await upload.read()
    else:
        picture = await request.body()
    if not picture:
        raise ValueError("an empty file, not a picture that can be read; try a JPEG or PNG")
    return {**options.model_validate(parameters, strict=False).model_dump(), "picture": picture}
