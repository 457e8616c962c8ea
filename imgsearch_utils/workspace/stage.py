"""Write-once folders: one step of a run, whole or not, with manifests that know what it was made
of.
"""

import contextlib
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from imgsearch_utils.workspace.storage import digest, read_json, shown, write_json

#: of a published run, what .gitignore leaves out: drawn, made or executed again from what is there
LEFT_OUT = ("figures/", ".safetensors", "chosen.index", "notebook.ipynb")
JOURNAL = "journal"  # the source of stages that grows
VERSIONS = (
    "torch",
    "timm",
    "open_clip_torch",
    "numpy",
    "pandas",
    "scikit-learn",
    "annoy",
    "pillow",
    "imgsearch-utils",
)
# : ending -> how a stage keeps a file of this kind: save(value, path), load(path); other rooms add
# theirs
KEPT: dict[str, tuple[Callable[[Any, Path], None], Callable[[Path], Any]]] = {
    ".json": (lambda values, path: write_json(path, values), read_json)
}


class StageFault(NamedTuple):
    """What is wrong with a stage.

    lost : whether it is gone, so that it can be made again; else it is there, and other than it was
    source : the source that it is about, if it is about one
    """

    what: str
    lost: bool = False
    source: str = ""


@dataclass(frozen=True)
class Stage:
    """One step of a run: folders built as ``NAME.partial``, renamed together, `last` at the end.

    A stage is finished when all its folders stand under their final names and hold the files that
    their manifests list; it is then never written again. One that lost a folder or a file is not
    finished: it is made again beside what is left of it, and takes its place only where that gives
    the same.

    sources : files outside the folders that the stage is made of, or writes; the manifest says what
        they held. Of a file that is only appended to (a journal), what it held then must still
        stand at its beginning
    published : kept in git, without what ``LEFT_OUT`` names
    repeats : whether making it again gives the same (False where it measures times)
    """

    folders: dict[str, Path]
    last: str
    sources: Mapping[str, Path] = field(default_factory=dict)
    published: bool = False
    repeats: bool = True

    @property
    def finished(self) -> bool:
        if not all(folder.is_dir() for folder in self.folders.values()):
            return False
        about = self._manifest(self.last)
        needed = [
            self.sources[name]
            for name in about.get("sources", ())
            if name in self.sources and name != JOURNAL
        ]
        return not self._lost(about) and all(file.is_file() for file in needed)

    @property
    def begun(self) -> bool:
        """Whether a folder stands under its final name."""
        return any(folder.is_dir() for folder in self.folders.values())

    def _manifest(self, tree: str) -> dict[str, Any]:
        file = self.folders[tree] / "manifest.json"
        return read_json(file, "versions") if file.is_file() else {}

    def recorded(self) -> dict[str, Any]:
        """The manifest of what is left of the stage, with `files` and `sources`; empty where there
        is none.
        """
        return next(filter(None, map(self._manifest, (self.last, *self.folders))), {})

    def _path(self, name: str) -> Path:
        tree, _, file = name.partition("/")
        return self.folders.get(tree, Path(os.devnull)) / file

    def _lost(self, manifest: dict[str, Any]) -> list[str]:
        return [
            name
            for name in manifest.get("files", ())
            if not self._path(name).is_file()
            and not (self.published and any(part in name for part in LEFT_OUT))
        ]

    def __getitem__(self, tree: str) -> Path:
        """The folder to read from (finished) or to write into (unfinished)."""
        folder = self.folders[tree]
        return folder if self.finished else folder.with_name(f"{folder.name}.partial")

    def start(self) -> "Stage":
        """Clear what an unfinished try left behind and make the folders to write into."""
        if not self.finished:
            listed_files = self.recorded().get("files")
            for tree, folder in self.folders.items():
                if not listed_files:  # nothing says what it was
                    shutil.rmtree(folder, ignore_errors=True)
                shutil.rmtree(self[tree], ignore_errors=True)
                self[tree].mkdir(parents=True)
        return self

    def keep(self, names: str | Sequence[str], make: Callable[[], Any]) -> Any:
        """What the stage holds under this name; where it is not there yet, it is made, and kept.

        So a notebook reads the same on a finished stage and on an unfinished one. What a finished
        stage lacks (a published run is kept small) is made again for the caller, and nothing is
        written.

        Parameters
        ----------
        names : a file in the last folder, or ``folder/file``; or several, which are made together.
            Its ending says how it is saved and loaded: see ``KEPT``
        make : called without arguments, where a file is missing; returns a value for each name

        Returns
        -------
        what is loaded, so that both ways give the same; a list for several names
        """
        if isinstance(names, str):
            return self.keep([names], lambda: [make()])[0]
        places = [name.rpartition("/") for name in names]
        files = [self[tree or self.last] / file for tree, _, file in places]
        if all(file.exists() for file in files):
            if self.finished:
                self.check(*(f"{tree or self.last}/{file}" for tree, _, file in places))
            return [KEPT[file.suffix][1](file) for file in files]
        with contextlib.ExitStack() as stack:
            if self.finished:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                files = [folder / file.name for file in files]
            for file, value in zip(files, make(), strict=True):
                KEPT[file.suffix][0](value, file)
            return [KEPT[file.suffix][1](file) for file in files]

    def publish(self, **manifest: Any) -> None:
        """Give the folders their final names; a finished stage stays as it is.

        Each folder's manifest lists the SHA-256 of the files of all of them, and what the sources
        held.

        Raises
        ------
        ValueError where a part of the stage stood already and what was made again differs from it:
            what was built on the stage since would no longer belong to it. Nothing is changed then.
        """
        if self.finished:
            for folder in self.folders.values():  # where a source was all that it lacked
                shutil.rmtree(folder.with_name(f"{folder.name}.partial"), ignore_errors=True)
            return
        files = {
            f"{tree}/{file.relative_to(self[tree]).as_posix()}": digest(file)
            for tree in self.folders
            for file in sorted(self[tree].rglob("*"))
            if file.is_file()
        }
        before = self.recorded().get("files", {})
        # drawings, and the versions and all the vectors that a head met
        aside = ("/figures/", "/config.json")
        other = [
            name
            for name, content in files.items()
            if self.repeats
            and before.get(name, content) != content
            and name.endswith((".csv", ".json", ".safetensors"))
            and not any(part in name for part in aside)
        ]
        other += self.other_sources()
        if other:
            left = " and ".join(
                shown(folder) for folder in self.folders.values() if folder.is_dir()
            )
            raise ValueError(
                f"made again, {', '.join(other)} is not what it was: grades, pictures or "
                "versions changed "
                "since, and later steps were built on it. Restore the lost folder from a copy; "
                "or remove "
                f"{left} and all that was made after it, to make it anew"
            )
        about = {
            **manifest,
            "files": files,
            "sources": self._hold(),
            "python": platform.python_version(),
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {name: version(name) for name in VERSIONS},
        }
        about["digest"] = _digest_of(about)
        for tree in self.folders:
            write_json(self[tree] / "manifest.json", about)
        partials = {folder: self[tree] for tree, folder in self.folders.items()}
        last = self.folders[self.last]
        shutil.rmtree(last, ignore_errors=True)
        for folder in sorted(partials, key=lambda folder: folder == last):
            shutil.rmtree(folder, ignore_errors=True)
            partials[folder].rename(folder)

    def _hold(self) -> dict[str, dict[str, Any]]:
        return {
            name: {"bytes": file.stat().st_size, "sha256": digest(file)}
            for name, file in self.sources.items()
            if file.is_file()
        }

    def check(self, *names: str) -> None:
        """ValueError where one of these files (``folder/file``) is there and not what the stage's
        manifest says.
        """
        files = self.recorded().get("files", {})
        for name in names:
            if (
                name in files
                and self._path(name).is_file()
                and digest(self._path(name)) != files[name]
            ):
                raise ValueError(
                    f"{shown(self._path(name))} is not the file that was written (by "
                    "manifest.json in "
                    f"{shown(self.folders[self.last])}); restore it from a copy, or remove it "
                    "and run "
                    "the study again, which makes it again"
                )

    def faults(self) -> list[StageFault]:
        """What is wrong with a stage that stands: lost, other than when it was made, or made of
        others.

        Reads every file. A stage that was made before manifests had digests is only looked at for
        its folders."""
        faults = [_not_there(folder) for folder in self.folders.values() if not folder.is_dir()]
        for tree, folder in self.folders.items():
            if folder.is_dir() and not (about := self._manifest(tree)):
                faults.append(StageFault(f"{shown(folder)} has no manifest.json", lost=True))
            elif folder.is_dir() and about.get("digest", _digest_of(about)) != _digest_of(about):
                faults.append(
                    StageFault(f"{shown(folder / 'manifest.json')} is not what was written")
                )
            elif folder.is_dir() and about.get("files") != self.recorded().get("files"):
                faults.append(
                    StageFault(
                        f"{shown(folder)} belongs to another making of the stage (its "
                        "manifest.json "
                        "differs)"
                    )
                )
        about = self.recorded()
        for name, content in about.get("files", {}).items():
            file = self._path(name)
            if file.is_file() and digest(file) != content:
                faults.append(StageFault(f"{shown(file)} is not the file that was written"))
        faults += [
            _not_there(self._path(name))
            for name in self._lost(about)
            if self._path(name).parent.is_dir()
        ]
        return faults + self._source_faults()

    def other_sources(self, *names: str) -> list[str]:
        """Which of the files that the stage was made of (of all `sources`, or these) are gone or
        others now.
        """
        return [fault.what for fault in self._source_faults(*names)]

    def _source_faults(self, *names: str) -> list[StageFault]:
        faults = []
        for name, recorded_source in self.recorded().get("sources", {}).items():
            file = self.sources.get(name)
            if file is None or names and name not in names:
                continue
            if not file.is_file():
                faults.append(_not_there(file, name))
            elif digest(file, recorded_source["bytes"]) != recorded_source["sha256"] or (
                name != JOURNAL and file.stat().st_size != recorded_source["bytes"]
            ):
                faults.append(
                    StageFault(
                        f"{shown(file)} is not what {shown(self.folders[self.last])} was made of",
                        source=name,
                    )
                )
        return faults


def _not_there(path: Path, source: str = "") -> StageFault:
    return StageFault(f"{shown(path)} is not there", True, source)


def _digest_of(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest without its own `digest`."""
    plain = {name: value for name, value in manifest.items() if name != "digest"}
    return hashlib.sha256(
        json.dumps(plain, sort_keys=True, ensure_ascii=False).encode()
    ).hexdigest()
