"""The pages that are served: what is opened for them, once for all who come."""

import contextlib
import functools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from imgsearch_utils.study import Rubric
from imgsearch_utils.web.guard import MAP
from imgsearch_utils.web.map_library import plotly_file
from imgsearch_utils.web.queue_names import COMPARING
from imgsearch_utils.web.server import Site
from imgsearch_utils.workspace import Run

if TYPE_CHECKING:
    from imgsearch_utils.grades.journal import Journal
    from imgsearch_utils.search.service import Service
    from imgsearch_utils.web.comparison_page import Questions
    from imgsearch_utils.web.tagging_page import Task
    from imgsearch_utils.web.teaching_page import (
        Classroom,  # this module is loaded before the page is shown, the rest after it
    )

PLOTLY = "plotly.min.js"


def search_site(run: Run, command: str) -> Site:
    """The search page, and the answers to programs."""
    turn = threading.RLock()

    @functools.cache
    def journal() -> "Journal":
        from imgsearch_utils.grades.journal import Journal

        return Journal(run.journal)

    def open_() -> "Service":
        from imgsearch_utils.search.service import Service
        from imgsearch_utils.web import search_page  # noqa: F401  loaded here, where nobody waits

        service, _ = Service(run), journal()
        threading.Thread(target=service.warm_up, daemon=True).start()
        return service

    def talk(service, send):
        from imgsearch_utils.web.search_page import Searching

        return Searching(run, lambda: service, send, votes=(journal(), turn))

    site = Site(
        f"Image search · {run.name}",
        "search_page",
        {"links": {"map": f"/{MAP}"}},
        command,
        open_,
        talk,
        lambda service: service.health(),
        api=True,
    )
    site.beside[MAP] = _map_site(run, site)
    with contextlib.suppress(ValueError):  # the map's page says that it is not installed
        site.scripts[PLOTLY] = plotly_file()
    return site


def _map_site(run: Run, search: Site) -> Site:
    """The map beside the search page."""
    turn = threading.RLock()

    def talk(service, send):
        from imgsearch_utils.web.map_page import Mapped

        return Mapped(run, lambda: service, send, turn)

    return Site(
        f"Map · {run.name}",
        "map_page",
        {"links": {"search": "/"}, "plotly": f"/{PLOTLY}"},
        search.command,
        search.open,
        talk,
        search.health,
        opened=search.opened,
    )


def teaching_site(run: Run, study: str, command: str) -> Site:
    """The page on which people teach a run; `study` as it was typed."""

    def open_() -> "Classroom":
        from imgsearch_utils.web.teaching_page import Classroom

        return Classroom(run, study)

    def talk(room, send):
        from imgsearch_utils.web.teaching_page import Teaching

        return Teaching(room, send)

    state = {"rubric": run.study.rubric.model_dump(mode="json")}
    return Site(
        f"Teaching · {run.name}", "tagger", state, command, open_, talk, lambda room: room.health()
    )


def tagging_site(run: Run, queue: str, number: int, command: str) -> Site:
    """The tagger of a queue of a run; an adjudicator's for the queue of disagreements."""

    def open_() -> "Task":
        from imgsearch_utils.grades.journal import Journal
        from imgsearch_utils.images.collection import open_collection
        from imgsearch_utils.web.queues import open_queue
        from imgsearch_utils.web.tagging_page import Task

        source = "adjudication" if queue == "disagreements" else "person"
        return Task(
            open_queue(run, queue, number),
            open_collection(run),
            Journal(run.journal),
            run.study.rubric,
            number,
            run.study.seed + number,
            source=source,
        )

    about = {"study": run.study.study, "run": run.name, "queue": queue, "round": number}
    return task_site(f"Tagging · {run.name}", run.study.rubric, open_, command, about)


def comparison_site(run: Run, number: int, command: str) -> Site:
    """The page on which people say which of two pictures is more like a third."""

    def open_() -> "Questions":
        from imgsearch_utils.web.comparison_page import open_questions

        return open_questions(run, number)

    def talk(task, send):
        from imgsearch_utils.web.comparison_page import Comparing

        return Comparing(task, send)

    about = {"study": run.study.study, "run": run.name, "queue": COMPARING, "round": number}
    return Site(
        f"Comparing · {run.name}",
        "comparison_page",
        {"rubric": run.study.rubric.model_dump(mode="json")},
        command,
        open_,
        talk,
        lambda task: {**about, "questions": len(task.table)},
    )


def task_site(
    title: str,
    rubric: Rubric,
    open_: Callable[[], "Task"],
    command: str,
    about: dict[str, Any],
    annotator: str = "",
) -> Site:
    """The tagger of any task; `about` is what programs are told of it."""

    def talk(task, send):
        from imgsearch_utils.web.tagging_page import Tagging

        return Tagging(task, send, annotator)

    return Site(
        title,
        "tagger",
        {"rubric": rubric.model_dump(mode="json")},
        command,
        open_,
        talk,
        lambda task: {**about, "pairs": len(task.pairs)},
    )
