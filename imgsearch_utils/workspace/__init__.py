"""In: the name of a study or of a run. Out: where it keeps things, in folders that are written once
and whole.

``Run`` and ``Round`` know the folders, ``Stage`` what a finished one holds and was made of.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "opening": ["BY_PEOPLE", "NAMED", "find_grades", "find_run", "how_begun", "open_run"],
        "runs": [
            "DRAWN",
            "PUBLISHED",
            "RUN_LOCK",
            "Round",
            "Run",
            "data_folder",
            "find_study",
            "notebook_path",
            "tuned_stage",
            "tuned_versions",
        ],
        "stage": ["JOURNAL", "KEPT", "LEFT_OUT", "VERSIONS", "Stage"],
        "storage": [
            "digest",
            "folder_lock",
            "home",
            "open_atomic",
            "read_json",
            "replace_folder",
            "shown",
            "source",
            "stamp",
            "write_atomic",
            "write_json",
            "atomic_path",
        ],
    },
)
