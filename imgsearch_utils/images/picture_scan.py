"""Which files lie below a data set's folder: pictures, and what is left out for which reason."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from imgsearch_utils.images.decoding import why_no_file, why_not_decoded

PLACES = ("all_images", "images")  # below which pictures may lie, beside tables and masks
#: folders that a system makes for itself, of thumbnails, versions and what was deleted
SYSTEM = {
    "__macosx",
    "@eadir",
    "@recycle",
    "#recycle",
    "@recently-snapshot",
    "#snapshot",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "@tmp",
    "@sharebin",
    "@syncfolder",
}
OWN = (".shards", "account.json")  # what `unpack` keeps beside the pictures
SYSTEM_FILES = {"thumbs.db", "desktop.ini"}
#: folders beside `images` whose pictures say something of those
BESIDE = {
    "annotation",
    "annotations",
    "depth",
    "edges",
    "ground_truth",
    "groundtruth",
    "gt",
    "label",
    "labels",
    "mask",
    "masks",
    "preview",
    "previews",
    "segmentation",
    "segmentations",
    "semantic",
    "thumb",
    "thumbnail",
    "thumbnails",
    "thumbs",
    "trimaps",
}


@dataclass
class Scan:
    """What lies below a folder.

    files : pictures, relative to where the pictures are
    seen : how many files there are in all, and links to folders
    reasons : of pictures and links that cannot take part, by name
    left_out : what is no picture of the data set: reason -> (how many, the first)
    notes : for the account
    """

    files: list[Path] = field(default_factory=list)
    seen: int = 0
    reasons: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, tuple[int, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def leave_out(self, reason: str, name: str) -> None:
        number, first = self.left_out.get(reason, (0, repr(name)))
        self.left_out[reason] = number + 1, first


def is_system(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or made by a system for itself."""
    return name.startswith(".") or name.lower() in SYSTEM or name.lower() in SYSTEM_FILES


def scan_pictures(folder: Path, pictures: Path, tables: set[Path]) -> Scan:
    """Look through a data set's folder; no link to a folder is followed.

    pictures : where they are: the folder itself, or one of ``PLACES`` in it
    tables : files that are read for what they say, and are not counted

    Raises
    ------
    ValueError
        where other pictures lie beside `pictures`, in folders that may be classes as well
    """
    found, inside, beside = Scan(), os.path.realpath(folder), []

    def not_listed(error: OSError) -> None:
        found.seen += 1
        found.reasons[os.path.relpath(error.filename, pictures)] = (
            f"a folder that cannot be read: {error.strerror}"
        )

    def leaves(path: Path) -> bool:
        # what is no link itself lies inside, for no link is followed on the way to it
        return path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(inside)

    for root, folders, names in os.walk(folder, onerror=not_listed):
        place = Path(root)
        if place == folder and OWN[0] in folders:
            folders.remove(OWN[0])
            names = [name for name in names if name not in OWN]
        folders.sort()
        below = PurePath(root).relative_to(folder)
        system = next((part for part in below.parts if is_system(part)), "")
        links = [name for name in folders if (place / name).is_symlink()]
        found.seen += len(links) + len(names)
        for name in links:
            if system or is_system(name):
                found.leave_out(f"in the system folder {system or name}", str(below / name))
                continue
            leads = "out of" if leaves(place / name) else "inside"
            found.reasons[os.path.relpath(place / name, pictures)] = (
                f"a link to a folder, which leads {leads} the data folder and is not followed; "
                "put the folder itself here"
            )
        for name in sorted(names):
            path, shown = place / name, (below / name).as_posix()
            if path in tables:
                found.seen -= 1
            elif system:
                found.leave_out(f"in the system folder {system}", shown)
            elif is_system(name):
                found.leave_out("hidden, or a system's own file", shown)
            elif why := why_not_decoded(path.suffix):
                found.leave_out(why, shown)
            elif not path.is_relative_to(pictures):
                beside.append(below / name)
            elif leaves(path):
                found.reasons[path.relative_to(pictures).as_posix()] = (
                    "a link that leads out of the data folder; put the picture itself here"
                )
            elif why := why_no_file(path):
                found.reasons[path.relative_to(pictures).as_posix()] = why
            else:
                found.files.append(path.relative_to(pictures))
    found.files.sort()
    _leave_out_beside(found, beside, pictures)
    return found


def _leave_out_beside(found: Scan, beside: list[PurePath], pictures: Path) -> None:
    """Leave out what lies beside the folder of the pictures, where it is plain that these are
    others' masks, thumbnails and the like.
    """
    stems = {path.with_suffix("").as_posix() for path in found.files}
    tops = Counter(path.parts[0] for path in beside if len(path.parts) > 1)
    alike = Counter(
        path.parts[0]
        for path in beside
        if path.relative_to(path.parts[0]).as_posix().removesuffix(path.suffix) in stems
    )
    odd = [
        name
        for name, number in tops.items()
        if name.lower() not in BESIDE and alike[name] < 0.9 * number
    ]
    if odd:
        raise ValueError(
            f"{pictures.parent}: pictures lie in {pictures.name}/ and in {odd[0]}/ beside it, so "
            f"that {pictures.name} may be where they are, or one class among others; nothing is "
            f"guessed: name {pictures} itself for the former, rename it for the latter"
        )
    for path in beside:
        place = f"in {path.parts[0]}/, " if len(path.parts) > 1 else ""
        found.leave_out(f"{place}beside {pictures.name}/", path.as_posix())
