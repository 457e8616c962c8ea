"""The commands of pages: serve, teach, tag."""

import shlex
from typing import Annotated

import typer

from imgsearch_utils import workspace
from imgsearch_utils.workspace import DRAWN, Run
from imgsearch_utils.workspace.command_options import (
    BrowserOption,
    RunOption,
    StudyArgument,
    StudyOption,
)

app = typer.Typer()
IpOption = Annotated[
    str, typer.Option(help="The address to listen on; 127.0.0.1 is this machine alone.")
]


def _again(command: str, run: Run, **options) -> str:
    """What starts this page again."""
    given_options = "".join(
        f" --{name} {shlex.quote(str(value))}" for name, value in options.items() if value
    )
    return f"imgsearch {command}{run.named}{given_options}"


@app.command()
def serve(
    study: StudyOption = DRAWN,
    run: RunOption = "",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8867,
    ip: IpOption = "127.0.0.1",
    browser: BrowserOption = True,
) -> None:
    """Search on a page of its own, and answer programs (/api/docs); stop it with Ctrl-C."""
    opened = workspace.find_run(study, run)
    if not (opened.vectors / "encoder" / "config.json").is_file():
        from imgsearch_utils.encoders.embed_collection import load_embeddings

        load_embeddings(opened)  # says what is missing before anything starts
    from imgsearch_utils.web.pages import search_site
    from imgsearch_utils.web.serve import serve as serve_site

    again = _again("serve", opened, study=study, port=port, ip=ip if ip != "127.0.0.1" else "")
    serve_site(search_site(opened, again), port, ip, browser)


@app.command()
def teach(
    study: StudyArgument,
    name: RunOption = "",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8868,
    ip: IpOption = "127.0.0.1",
    browser: BrowserOption = True,
) -> None:
    """Teach a run what you mean by similar, on a page; stop it with Ctrl-C."""
    from imgsearch_utils.steps.teaching_session import check_teachable

    run = workspace.find_run(study, name)
    check_teachable(run)
    from imgsearch_utils.web.pages import teaching_site
    from imgsearch_utils.web.serve import serve as serve_site

    again = _again(
        f"teach {shlex.quote(study)}", run, port=port, ip=ip if ip != "127.0.0.1" else ""
    )
    serve_site(teaching_site(run, study, again), port, ip, browser)


@app.command()
def tag(
    study: StudyArgument,
    name: RunOption = "",
    queue: Annotated[
        str,
        typer.Option(
            help="round, check, disagreements, suspected_errors, pooled, votes, map or comparisons."
        ),
    ] = "round",
    number: Annotated[int, typer.Option("--round", help="The round whose pairs are asked.")] = 0,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8866,
    ip: IpOption = "127.0.0.1",
    browser: BrowserOption = True,
) -> None:
    """Grade pairs, or compare pictures, on a page of its own; stop it with Ctrl-C."""
    from imgsearch_utils.web.queue_names import COMPARING, check_queue

    run = workspace.find_run(study, name)
    if run.published:
        raise ValueError(
            f"run {run.name} is published and never written again; grade a run of your own: "
            "--run NAME"
        )
    # their grades count from the next round on
    number = len(run.rounds_made) if queue in ("check", "map", COMPARING) else number
    if queue != COMPARING:
        check_queue(run, queue, number)
    from imgsearch_utils.web.pages import comparison_site, tagging_site
    from imgsearch_utils.web.serve import serve as serve_site

    again = _again(
        f"tag {shlex.quote(study)}",
        run,
        queue=queue if queue != "round" else "",
        round=number,
        port=port,
        ip=ip if ip != "127.0.0.1" else "",
    )
    if queue == COMPARING:
        site = comparison_site(run, number, again)
    else:
        site = tagging_site(run, queue, number, again)
    serve_site(site, port, ip, browser)
