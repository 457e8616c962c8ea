"""The command `unpack`: pictures or vectors in shards become a folder."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from imgsearch_utils import workspace
from imgsearch_utils.workspace.account import printable

app = typer.Typer()


@app.command()
def unpack(
    source: Annotated[
        Path, typer.Argument(help="A shard, or a folder of shards: .tar, .parquet, or .arrow.")
    ],
    folder: Annotated[Path, typer.Argument(help="Where the pictures and their labels.csv go.")],
    column: Annotated[
        str,
        typer.Option(
            help="The column that holds the pictures, or the vectors; of a tar what follows the "
            "first dot of their names, e.g. jpg. Only where several may be meant."
        ),
    ] = "",
) -> None:
    """Unpack pictures or vectors that come in shards: tar, Parquet, a Hugging Face dataset.

    A shard that was unpacked is not unpacked again.
    """
    from tqdm import tqdm

    from imgsearch_utils.shards.unpacking import unpack

    def progress(shards):
        return tqdm(shards, desc="shards", disable=None)

    done = unpack(source, folder, progress, column)
    for place, why in list(done.set_aside.items())[:10]:
        print(printable(f"set aside: {place}: {why}"), file=sys.stderr)
    if len(done.set_aside) > 10:
        print(f"... and {len(done.set_aside) - 10:,} more", file=sys.stderr)
    columns_said = f"; labels.csv says of each: {', '.join(done.columns)}" if done.columns else ""
    lines = [
        f"{done.images:,} {'vectors' if done.vectors else 'pictures'} in "
        f"{workspace.shown(folder)}{columns_said}",
        *done.account.lines(),
        f"imgsearch new <study> {workspace.shown(folder)} --classes <column>  # or --classes '' "
        "for none",
    ]
    print("\n".join(map(printable, lines)))
