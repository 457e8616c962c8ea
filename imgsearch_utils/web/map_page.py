"""What the map page does: the run's images as points, coloured by what is known of them; a
selection goes on.
"""

import io
import threading
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from imgsearch_utils.search.service import Service
from imgsearch_utils.steps.collection_map import NAMES, facts, keep_selection, points_of
from imgsearch_utils.steps.map_layout import INSTALL, LAYOUTS, has_layout
from imgsearch_utils.web.map_library import plotly_file
from imgsearch_utils.web.messages import refusing, serial_of
from imgsearch_utils.web.page_pictures import name_at, send_pictures
from imgsearch_utils.workspace import Run
from imgsearch_utils.workspace.tables import write_table


class Mapped:
    """One visitor's map: understands what the page sends, and sends points, colours, pictures.

    The last selection is kept as `selected`, names of images in the order of the database.

    Parameters
    ----------
    service : gives the opened run; called when the page is shown, and what the run lacks is said on
        screen
    send : called with a message to the page and its buffers
    turn : a lock of all visitors, so that one layout is not made twice at once
    """

    def __init__(
        self, run: Run, service: Callable[[], Service], send: Callable[..., None], turn: Any = None
    ):
        self._run, self._service, self._send, self._turn = (
            run,
            service,
            send,
            turn or threading.RLock(),
        )
        self._open, self.selected = False, []

    def receive(self, message: Mapping[str, Any], buffers=()) -> None:
        """Do what the page asks; what cannot be done is sent back as one line."""
        with refusing(lambda line: self._refuse(message, line)):
            handle = {
                "hello": self._on_hello,
                "layout": self._on_layout,
                "colour": self._on_colour,
                "want": self._on_want,
                "select": self._on_select,
                "queue": self._on_queue,
                "table": self._on_table,
                "library": self._on_library,
            }[message["kind"]]
            handle(message, buffers)

    def _refuse(self, message, line: str) -> None:
        self._send(
            {"kind": "error", "serial": serial_of(message), "line": line, "fatal": not self._open}
        )

    def _on_hello(self, message, _) -> None:
        plotly_file()
        service = self._service()
        self._searchers, used = service.searchers, service.used
        self._names, self._collection = used.names, used.collection
        # images go by their row
        self._known_as = zlib.crc32(repr(self._names).encode("utf-8", "replace"))
        classes = used.labels.table()[used.labels.classes]
        self._facts = facts(self._run, self._names, classes)
        # what is alike for all tells nothing
        telling_facts = [name for name in self._facts if self._facts[name].nunique() > 1]
        self._open = True
        self._send(
            {
                "kind": "open",
                "run": self._run.name,
                "study": self._run.study.study,
                "images": len(self._names),
                "models": list(self._searchers),
                "used": used.model.name,
                "layouts": {name: NAMES[name] for name in LAYOUTS if has_layout(name)},
                "lacks": "" if has_layout("umap") else INSTALL,
                "colours": telling_facts,
                "kept": not self._run.published,
                "known_as": self._known_as,
                "teaches": len(self._run.rounds_made) < self._run.most_rounds,
            }
        )

    def _on_library(self, *_) -> None:
        """plotly's text, for a notebook, which has no address for it; so it is not saved with the
        notebook.
        """
        self._send({"kind": "library"}, [plotly_file().read_bytes()])

    def _on_layout(self, message, _) -> None:
        searcher, method = self._searchers[message["model"]], message["method"]
        with self._turn:
            layout = points_of(
                self._run, searcher.model.name, self._names, searcher.vectors, method
            )
        explained = layout.config["explained"]
        self._send(
            {
                "kind": "points",
                "serial": serial_of(message),
                "model": message["model"],
                "method": method,
                "explained": sum(explained[:2]) if explained else None,
            },
            [np.ascontiguousarray(layout.vectors[:, axis], "<f4").tobytes() for axis in (0, 1)],
        )

    def _on_colour(self, message, _) -> None:
        """A fact of each image: as numbers, or as places in a list of values, most frequent first,
        -1 for none.
        """
        by = message["by"]
        column = self._facts[by] if by else pd.Series("", self._facts.index)
        if pd.api.types.is_numeric_dtype(column):
            values, content = None, column.to_numpy("<f4")
        else:
            column = column.astype(str)
            values = [value for value in column.value_counts().index if value]
            content = pd.Index(values).get_indexer(column).astype("<f4")
        self._send(
            {"kind": "colours", "serial": serial_of(message), "by": by, "values": values},
            [content.tobytes()],
        )

    def _on_want(self, message, _) -> None:
        send_pictures(
            self._send, self._collection, self._names, message["rows"], bool(message["large"])
        )
        for row in message["rows"]:
            facts_of_image = self._facts.iloc[row]
            shown_facts = {
                name: str(value)
                for name, value in facts_of_image.items()
                if value == value and value != ""
            }
            self._send(
                {
                    "kind": "about",
                    "row": row,
                    "name": name_at(self._names, row),
                    "facts": shown_facts,
                }
            )

    def _rows(self, message, buffers) -> np.ndarray:
        """The rows that the page selected, int32 in a buffer; ValueError for what are none, or of
        other images.
        """
        rows = np.unique(np.frombuffer(buffers[0], "<i4"))
        if (
            message["known_as"] != self._known_as
            or len(rows)
            and not 0 <= rows[0] <= rows[-1] < len(self._names)
        ):
            raise ValueError("the images of this page have changed since it was opened; reload it")
        return rows

    def _selection(self, message, buffers) -> list[str]:
        """The names of what the page selected; ValueError where that is nothing."""
        if not len(rows := self._rows(message, buffers)):
            raise ValueError("nothing is selected; draw around some points first")
        return [self._names[row] for row in rows]

    def _on_select(self, message, buffers) -> None:
        self.selected = [self._names[row] for row in self._rows(message, buffers)]

    def _on_queue(self, message, buffers) -> None:
        chosen = self._selection(message, buffers)
        with self._turn:
            n_train = keep_selection(self._run, chosen)
        self._send(
            {
                "kind": "queued",
                "serial": serial_of(message),
                "images": len(chosen),
                "train": n_train,
                "command": f"imgsearch tag {self._run.study.study}{self._run.named} --queue map",
            }
        )

    def _on_table(self, message, buffers) -> None:
        chosen, content = self._selection(message, buffers), io.StringIO()
        write_table(
            self._facts.set_axis(self._names).loc[chosen].rename_axis("image").reset_index(),
            content,
        )
        self._send(
            {
                "kind": "table",
                "serial": serial_of(message),
                "name": f"{self._run.name}_selection.csv",
            },
            [content.getvalue().encode()],
        )
