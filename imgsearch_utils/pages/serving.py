"""A notebook shown as a page of its own, until it is stopped."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import papermill

from imgsearch_utils import parameters, workspace


def serve(name: str, given: dict[str, Any], port: int, open_browser: bool, ip: str = "127.0.0.1") -> None:
    """Show a notebook as a page on this machine alone (or on `ip`) by Voila, with these parameters, until stopped."""
    notebook = workspace.notebook_path(name)
    parameters.refuse_unknown(name, given, parameters.declared(notebook))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / notebook.name
        papermill.execute_notebook(str(notebook), str(copy), given, prepare_only=True, progress_bar=False)
        browser = [] if open_browser else ["--no-browser"]
        subprocess.run([sys.executable, "-m", "voila", str(copy), f"--Voila.ip={ip}", f"--port={port}", *browser],
                       cwd=workspace.source(), check=False)
