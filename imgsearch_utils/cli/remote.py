"""Searching by way of a server that is running: no network to load here, the same answers."""

import base64
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from imgsearch_utils.cli.questions import named


def search(
    server: str,
    asked: list[list[Path]],
    unlike: Sequence[Path],
    text: str,
    as_json: bool,
    **options,
) -> None:
    """Ask a server, see ``imgsearch search --server``, and print what it answers."""
    import pandas as pd

    from imgsearch_utils.web.server_address import Server

    at, answers, about = Server(server), [], {}
    for files in asked:
        query = named(files, unlike, text)
        try:
            about = _ask(at, files, unlike, text, options)
        except ValueError as error:
            if len(asked) == 1:
                raise ValueError(f"{query}: {error}") from None
            print(f"set aside: {query}: {error}", file=sys.stderr)
            continue
        answers.append(
            {
                "query": query,
                "close_match": about.pop("close_match"),
                "results": about.pop("results"),
            }
        )
        about.pop("query")
        if not as_json:
            print(
                f"{query} - {about['model']} of run {about['run']}, {about['index']} index, "
                f"{about['pictures']:,} pictures"
            )
            results = pd.DataFrame(answers[-1]["results"]).rename(
                columns={"p_similar": "P(similar)"}
            )
            print(results.dropna(axis=1, how="all").to_string(index=False, float_format="%.3f"))
            calibrated = "P(similar)" in results and results["P(similar)"].notna().any()
            if not answers[-1]["close_match"] and calibrated:
                print(
                    f"no close match: P(similar) is below {about['threshold']:.3f}, the "
                    "threshold, everywhere"
                )
    if about.get("notice"):
        print(f"imgsearch: {about['notice']}", file=sys.stderr)
    if not answers:
        raise ValueError("none of the pictures can be read")
    if as_json:
        print(json.dumps({**about, "queries": answers}, ensure_ascii=False))


def _ask(server, files, unlike, text, options):
    if len(files) == 1 and not unlike and not text:
        return server.ask("search", _content(files[0]), **options)
    like, against = (
        [{"picture": base64.b64encode(_content(file)).decode()} for file in files_of_kind]
        for files_of_kind in (files, unlike)
    )
    return server.ask("search", {"words": text, "like": like, "unlike": against, **options})


def _content(file: Path) -> bytes:
    from imgsearch_utils.images.decoding import MAX_UPLOAD, why_no_file

    if reason := why_no_file(file):
        raise ValueError(reason)
    if file.stat().st_size > MAX_UPLOAD:
        raise ValueError(f"more than {MAX_UPLOAD // 10**6} MB; make it smaller first")
    return file.read_bytes()
