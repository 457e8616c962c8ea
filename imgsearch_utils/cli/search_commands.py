"""The commands that search: embed, index, search, classify, duplicates; a table, or JSON."""

import itertools
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from imgsearch_utils import workspace
from imgsearch_utils.cli import remote
from imgsearch_utils.cli.questions import named, questions
from imgsearch_utils.workspace import DRAWN, atomic_path
from imgsearch_utils.workspace.command_options import (
    IndexOption,
    JsonOption,
    ModelOption,
    RunOption,
    StudyOption,
)

app = typer.Typer()
ShowOption = Annotated[Path | None, typer.Option(help="A PNG, SVG or PDF to draw the answer into.")]


@app.command()
def embed(
    study: StudyOption = DRAWN,
    run: RunOption = "",
    engine: Annotated[
        str, typer.Option(help="What encodes: ray, for Ray's workers, here or on a cluster.")
    ] = "",
    address: Annotated[
        str, typer.Option(help="Of a Ray cluster, e.g. auto; this machine when not given.")
    ] = "",
) -> None:
    """Make the vectors of a study's pictures; of new pictures alone where others have theirs."""
    from tqdm import tqdm

    from imgsearch_utils.encoders.embed_collection import ACCOUNT, embed_run
    from imgsearch_utils.images.collection import open_collection
    from imgsearch_utils.images.embeddings import Embeddings
    from imgsearch_utils.search.database import open_metadata
    from imgsearch_utils.workspace.account import Account, printable

    if engine not in ("", "ray"):
        raise ValueError(
            f"--engine knows ray alone, got {engine!r}; leave it out, and this process encodes"
        )
    if address and not engine:
        raise ValueError("--address is of a Ray cluster: give --engine ray too")
    opened, encode = workspace.find_run(study, run, begin=True), None
    if engine:
        from imgsearch_utils.encoders.with_ray import by_ray

        encode = by_ray(opened.study.encoder, address)
    folder, collection = opened.vectors / "encoder", open_collection(opened, tqdm)
    before = Embeddings.load(folder).names if (folder / "config.json").is_file() else []
    embeddings, aside = embed_run(opened, collection, tqdm, encode)
    open_metadata(opened, embeddings)  # made here, so that the first search does not wait for it
    for image, reason in aside.itertuples(index=False):
        print(printable(f"set aside: {image}: {reason}"), file=sys.stderr)
    new = len(set(embeddings.names) - set(before))
    print(f"{len(embeddings.names):,} vectors, {new:,} of them new: {workspace.shown(folder)}")
    if not opened.published:
        print("\n".join(Account.read(opened.vectors / ACCOUNT).lines()))


@app.command()
def index(
    study: StudyOption = DRAWN, run: RunOption = "", model: ModelOption = "", name: IndexOption = ""
) -> None:
    """Keep an index of a run's vectors for search; again after new pictures, or a round."""
    from imgsearch_utils.search.database import keep_index

    kept_index = keep_index(workspace.find_run(study, run), model, name)
    count = kept_index.index.count
    what_was_done = {0: "as it was", count: "built"}.get(
        kept_index.new, f"{kept_index.new:,} added"
    )
    print(
        f"{kept_index.index.name} of {count:,} vectors of the {kept_index.model.name}, "
        f"{what_was_done}: "
        f"{workspace.shown(kept_index.file)}"
    )


def _opened(asked: list[list[Path]], typed: list[Path]):
    """The questions whose pictures can be read, with these; others are named, or raised where they
    were typed.
    """
    from imgsearch_utils.images.decoding import open_image

    for files in asked:
        try:
            yield files, [open_image(file) for file in files]
        except ValueError as error:
            if asked == [typed]:
                raise
            print(f"set aside: {error}", file=sys.stderr)


def _draw(figure, file: Path) -> None:
    try:
        with atomic_path(file) as partial:
            figure.savefig(partial, format=file.suffix[1:] or "png")
    except (ValueError, OSError) as error:
        raise ValueError(f"--show {file}: {' '.join(str(error).split())}") from None


@app.command()
def search(
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(
            help="A picture; several together are one question; of a folder, each picture is a "
            "question."
        ),
    ] = None,
    unlike: Annotated[
        list[Path] | None, typer.Option("--not", help="A picture that it shall not be like.")
    ] = None,
    text: Annotated[
        str, typer.Option(help="Words, alone or with pictures; needs an open_clip encoder.")
    ] = "",
    k: Annotated[int, typer.Option("-k", help="How many results.")] = 10,
    study: StudyOption = DRAWN,
    run: RunOption = "",
    model: ModelOption = "",
    index: IndexOption = "",
    crops: Annotated[
        int, typer.Option(help="So many crops of the query, their mean is asked.")
    ] = 1,
    expand: Annotated[
        int,
        typer.Option(
            help="So many first results are added to the query. Off: 3 of them change nDCG@10 on "
            "drawn houses by -.009 with the encoder, +.003 with a head."
        ),
    ] = 0,
    alpha: Annotated[float, typer.Option(help="Their weight is their cosine to this power.")] = 3.0,
    rerank: Annotated[
        str,
        typer.Option(
            help="reciprocal: the first 100 ordered by the neighbours that they share. Off: on "
            "drawn houses it changes nDCG@10 by -.020 with the encoder, -.007 with a head."
        ),
    ] = "",
    where: Annotated[
        str,
        typer.Option(
            help="Only pictures whose labels fit, in SQL: \"house_type = 'modern' AND year > "
            '1990".'
        ),
    ] = "",
    as_json: JsonOption = False,
    show: ShowOption = None,
    server: Annotated[
        str, typer.Option(help="The address of `imgsearch serve`, which answers at once.")
    ] = "",
) -> None:
    """Find the most similar pictures of a study: names, labels, score, calibrated P(similar)."""
    import numpy as np

    pictures, unlike = pictures or [], unlike or []
    if server:
        if index or show or alpha != 3.0 or run or study != DRAWN:
            raise ValueError(
                "a server has its study, run and index, and takes no --alpha or --show"
            )
        return remote.search(
            server,
            questions(pictures, text),
            unlike,
            text,
            as_json,
            k=k,
            model=model,
            expand=expand,
            rerank=rerank,
            crops=crops,
            where=where,
        )
    from imgsearch_utils.search.searcher import Searcher

    opened = workspace.find_run(study, run)
    asked, searcher = (
        questions(pictures, text),
        Searcher.open(opened, model or ("encoder" if text else ""), index),
    )
    if searcher.notice:
        print(f"imgsearch: {searcher.notice}", file=sys.stderr)
    allowed = searcher.only(where)
    words = searcher.encode_texts([text]) if text else None
    [(_, other)] = _opened([unlike], unlike)
    against, answers, sheet = searcher.encode(other, crops) if other else None, [], []
    for files, shown in _opened(asked, pictures):
        wanted = searcher.encode(shown, crops) if shown else words
        if text and shown:
            wanted = np.concatenate([wanted, words])
        one = len(wanted) == 1 and not text
        results = searcher.search(
            wanted[:1], k, expand, alpha, one, wanted[1:], against, rerank, allowed
        )
        results, query = results.drop(columns="query"), named(files, unlike, text)
        answers.append(
            {
                "query": query,
                "close_match": bool(results.close.any()),
                "results": json.loads(results.to_json(orient="records")),
            }
        )
        if not as_json:
            _print_results(
                searcher,
                query,
                results,
                "words" if not shown else "" if one else "several examples",
            )
        if show and len(sheet) < 20:
            sheet.append((query, shown[0] if shown else None, results))
    if not answers:
        raise ValueError(f"{pictures[0]}: none of its pictures can be read")
    n_searched = len(searcher.names if allowed is None else allowed)
    if k > n_searched:
        print(
            f"{'the database has' if allowed is None else '--where leaves'} {n_searched:,} "
            "pictures; "
            "all are ranked",
            file=sys.stderr,
        )
    if as_json:
        about = {
            "study": searcher.run.study.study,
            "run": searcher.run.name,
            "model": searcher.model.name,
            "index": searcher.index.name,
            "pictures": len(searcher.names),
            "queries": answers,
        }
        threshold = searcher.model.threshold if searcher.model.calibration else None
        about |= {"threshold": threshold, "notice": searcher.notice}
        print(json.dumps(about, ensure_ascii=False))
    if show:
        _draw(_contact_sheet(searcher, sheet), show)


def _contact_sheet(searcher, sheet: list):
    """A row a query: itself, then its first 12 results with name, label, score and P(similar)."""
    from PIL import Image, ImageOps

    from imgsearch_utils import plots
    from imgsearch_utils.images.collection import thumbnails

    tiles, titles, columns = [], [], 1 + min(12, max(len(results) for _, _, results in sheet))
    blank = Image.new("RGB", (160, 160), "white")
    for query, picture, results in sheet:
        results = results.head(columns - 1)
        label = (
            results[searcher.labels.columns[0]]
            if searcher.labels.columns
            else results.image.str.slice(0, 0)
        )
        lines = zip(
            results.image.str.rsplit("/", n=1).str[-1].str.slice(0, 24),
            label.str.slice(0, 24),
            results.score.map("{:.2f}".format)
            + [f", P {p:.2f}" if p >= 0 else "" for p in results.p_similar],
        )
        tiles += [
            ImageOps.pad(picture, blank.size, color="#e8e8e8") if picture else blank,
            *thumbnails(searcher.collection, results.image),
            *[blank] * (columns - 1 - len(results)),
        ]
        far = results.p_similar.notna().any() and not results.close.any()
        titles += [
            "\n".join(["query", Path(query).name[:24], "no close match" if far else ""]),
            *map("\n".join, lines),
            *[""] * (columns - 1 - len(results)),
        ]
    return plots.picture_grid(tiles, titles, columns)


def _print_results(searcher, query: str, found, unknown_of: str) -> None:
    print(
        f"{query} - {searcher.model.name} of run {searcher.run.name}, {searcher.index.name} index, "
        f"{len(searcher.names):,} pictures"
    )
    shown = found.drop(columns="close" if found.p_similar.notna().any() else ["close", "p_similar"])
    print(
        shown.rename(columns={"p_similar": "P(similar)"}).to_string(
            index=False, float_format="%.3f"
        )
    )
    if unknown_of or not searcher.model.calibration:
        print(
            "P(similar) is not known "
            f"{f'of {unknown_of}' if unknown_of else 'before the first finished round'}"
        )
    elif not found.close.any():
        print(
            f"no close match: P(similar) is below {searcher.model.threshold:.3f}, the threshold, "
            "everywhere"
        )


@app.command()
def classify(
    picture: Annotated[Path, typer.Argument(help="A picture, or a folder of pictures.")],
    study: StudyOption = DRAWN,
    run: RunOption = "",
    level: Annotated[str, typer.Option(help="A class column; the finest when not given.")] = "",
    words: Annotated[
        str, typer.Option(help="An open_clip encoder to classify by words; the study's own else.")
    ] = "",
    classifier: Annotated[
        str,
        typer.Option(
            help="A ready-made one: timm:<model> or timm:<model>/<checkpoint>; the study's else."
        ),
    ] = "",
    as_json: JsonOption = False,
    show: ShowOption = None,
) -> None:
    """Name a picture's class: by neighbours, a linear probe, words, a ready-made classifier."""
    import pandas as pd

    from imgsearch_utils.encoders.embed_collection import load_embeddings
    from imgsearch_utils.encoders.encoder_names import shared_encoder
    from imgsearch_utils.images.decoding import picture_files
    from imgsearch_utils.search import classify
    from imgsearch_utils.search.database import encoder_of

    opened = workspace.find_run(study, run)
    encoder = encoder_of(opened, load_embeddings(opened))
    fitted, ready = classify.Classifier.fit(opened, level), opened.study.classifier
    ready = ready.model_copy(update={"name": classifier or ready.name})
    reader = shared_encoder(words) if words else encoder
    classes, trust, answers = (
        sorted(fitted.images.table[fitted.level].unique()),
        fitted.evaluate(),
        [],
    )
    several = _opened([[file] for file in picture_files(picture)], [picture])
    while batch := list(itertools.islice(several, ready.batch)):
        images = [image for _, [image] in batch]
        tables = [
            fitted.classify(encoder.encode_images(images)),
            classify.ready_made(images, ready),
        ]
        if words or reader.encode_texts:
            tables.insert(1, classify.by_words(reader, reader.encode_images(images), classes))
        all_classes = pd.concat(tables, ignore_index=True)
        for number, ([file], [image]) in enumerate(batch):
            of_query = all_classes[all_classes["query"] == number].drop(columns="query")
            answers.append(
                {"query": str(file), "classes": json.loads(of_query.to_json(orient="records"))}
            )
            if not as_json:
                wide = of_query.assign(
                    text=of_query["class"].str.slice(0, 32) + of_query.p.map(" {:.2f}".format)
                )
                wide = wide.pivot(index="rank", columns="method", values="text")[
                    of_query.method.unique()
                ].fillna("")
                print(
                    f"{file} - {fitted.level} of run "
                    f"{opened.name}\n{wide.to_string(index=False, index_names=False)}"
                )
            if show:
                _draw(classify.figure(image, of_query), show)
    if not answers:
        raise ValueError(f"{picture}: none of its pictures can be read")
    if as_json:
        about = {
            "study": opened.study.study,
            "run": opened.name,
            "level": fitted.level,
            "queries": answers,
        }
        print(
            json.dumps(
                {**about, "on_test": json.loads(trust.to_json(orient="records"))},
                ensure_ascii=False,
            )
        )
    elif len(trust):
        print(
            f"right on the {trust.images.iloc[0]} test images: "
            + ", ".join(f"{row.method} {row.accuracy:.0%}" for row in trust.itertuples())
        )


@app.command()
def duplicates(
    study: StudyOption = DRAWN,
    run: RunOption = "",
    cosine: Annotated[
        float | None, typer.Option(help="From which cosine on; the study's own when not given.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A folder to write into.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Find pictures that are nearly the same: a table, and a page that shows them."""
    from imgsearch_utils.encoders.embed_collection import ACCOUNT, embed_command, load_embeddings
    from imgsearch_utils.evaluation.duplicate_report import find_duplicates, write_duplicates
    from imgsearch_utils.images.collection import open_collection
    from imgsearch_utils.images.study_images import Images

    opened = workspace.find_run(study, run)
    cosine = opened.study.duplicate_cosine if cosine is None else cosine
    if not 0 < cosine <= 1:
        raise ValueError(f"--cosine must be above 0 and at most 1, got {cosine}")
    if opened.published and out is None:
        raise ValueError(
            f"run {opened.name} is published and not written to; name a folder: --out FOLDER"
        )
    collection, embeddings = open_collection(opened), load_embeddings(opened)
    images = Images(collection.images, embeddings).among(embeddings.names)
    table = find_duplicates(images, cosine)
    folder = out or opened.results / "duplicates"
    page = write_duplicates(opened, collection, table, cosine, folder)
    account = collection.account_of(
        images.names, lambda _: f"without a vector; where it can be read: {embed_command(opened)}"
    )
    account.write(folder / ACCOUNT)
    if as_json:
        about = {
            "study": opened.study.study,
            "run": opened.name,
            "cosine": cosine,
            "images": len(images),
        }
        return print(
            json.dumps(
                {**about, "duplicates": json.loads(table.to_json(orient="records"))},
                ensure_ascii=False,
            )
        )
    across = table[table.across != ""]
    print(
        f"{len(table):,} of {len(images):,} images have a near-duplicate (cosine {cosine} or "
        "more): "
        f"{table.group.nunique():,} groups, {across.group.nunique():,} of them across classes"
    )
    if len(table):
        print(table.head(20).to_string(index=False, float_format="%.3f"))
    print("\n".join(account.lines()))
    print(f"written: {workspace.shown(page)}")
