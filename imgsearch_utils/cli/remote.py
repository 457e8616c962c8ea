"""Searching by way of a server that is running: no network to load here, the same answers."""

import json
import sys
from pathlib import Path


def search(server: str, picture: Path | None, text: str, as_json: bool, **options) -> None:
    """Ask a server, see ``imgsearch search --server``, and print what it answers."""
    import pandas as pd

    from imgsearch_utils.pages.address import Server
    from imgsearch_utils.pictures.decoding import picture_files

    asked, answers, about = Server(server), [], {}
    for query in [text] if text else map(str, picture_files(picture)):
        try:
            about = (asked.ask("search", {"words": text, **options}) if text else
                     asked.ask("search", _content(Path(query)), **options))
        except ValueError as error:
            if text or picture.is_file():
                raise ValueError(f"{query}: {error}") from None
            print(f"set aside: {query}: {error}", file=sys.stderr)
            continue
        answers.append({"query": query, "close_match": about.pop("close_match"), "results": about.pop("results")})
        about.pop("query")
        if not as_json:
            print(f"{query} - {about['model']} of run {about['run']}, {about['index']} index, "
                  f"{about['pictures']:,} pictures")
            found = pd.DataFrame(answers[-1]["results"]).rename(columns={"p_similar": "P(similar)"})
            print(found.dropna(axis=1, how="all").to_string(index=False, float_format="%.3f"))
            if not answers[-1]["close_match"] and about["threshold"] is not None and not text:
                print(f"no close match: P(similar) is below {about['threshold']:.3f}, the threshold, everywhere")
    if not answers:
        raise ValueError(f"{picture}: none of its pictures can be read")
    if as_json:
        print(json.dumps({**about, "queries": answers}, ensure_ascii=False))


def _content(file: Path) -> bytes:
    from imgsearch_utils.pictures.decoding import MAX_UPLOAD, why_no_file

    if reason := why_no_file(file):
        raise ValueError(reason)
    if file.stat().st_size > MAX_UPLOAD:
        raise ValueError(f"more than {MAX_UPLOAD // 10**6} MB; make it smaller first")
    return file.read_bytes()
