"""A model: the encoder as it is, or with a head, and the calibration that turns its cosines into
probabilities.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from imgsearch_utils.images.embeddings import Embeddings
from imgsearch_utils.images.study_images import Images
from imgsearch_utils.images.vector_store import plain
from imgsearch_utils.learning.calibration import Calibration
from imgsearch_utils.metrics.geometry import normalised, pair_cosines
from imgsearch_utils.study import nearest
from imgsearch_utils.workspace import Round, Run, read_json

if TYPE_CHECKING:
    from imgsearch_utils.learning.heads import (
        Head,
    )  # and torch with it, which the encoder's own model does not need

MODELS = ("encoder", "head")


class NoHead:
    """Stands where a head could: the encoder's vectors, normalised."""

    embed = staticmethod(normalised)

    def check_fits(self, embeddings: Embeddings) -> None:
        """Any encoder's vectors fit."""


NO_HEAD = NoHead()


@dataclass(frozen=True)
class Model:
    """What ranks images and says how similar two of them are.

    name : "encoder", or "head": the encoder with a trained head
    calibration : of the model's cosines; None before a round has fitted it
    out_of_collection_cosine : the encoder's cosine with its nearest image below which a query is of
    another kind than the collection"""

    name: str = "encoder"
    head: "Head | NoHead" = NO_HEAD
    calibration: Calibration | None = None
    out_of_collection_cosine: float = -1.0

    @classmethod
    def with_head(
        cls,
        head: "Head",
        calibration: Calibration | None = None,
        out_of_collection_cosine: float = -1.0,
    ) -> "Model":
        """The encoder followed by a trained head."""
        return cls("head", head, calibration, out_of_collection_cosine)

    @property
    def threshold(self) -> float:
        """The P(similar) at or above which a pair is called similar; NaN without a calibration."""
        return self.calibration.threshold if self.calibration else float("nan")

    def vectors(self, vectors: np.ndarray) -> np.ndarray:
        """The model's vectors, (n, e) of length 1, of encoder vectors (n, d)."""
        return self.head.embed(vectors)

    def cosines(self, images: Images, pairs: pd.DataFrame) -> np.ndarray:
        """The model's cosine of each pair, (n_pairs,); ValueError names images without a vector,
        another encoder.
        """
        self.head.check_fits(images.embeddings)
        vectors, i, j = images.vectors_of_pairs(pairs)
        return pair_cosines(self.vectors(vectors), i, j)

    def p_similar(self, cosine: np.ndarray) -> np.ndarray:
        """P(grade 3) of cosines, (n,); NaN without a calibration."""
        return (
            self.calibration.predict(cosine)[:, 3]
            if self.calibration
            else np.full(len(cosine), np.nan)
        )


def models_to_dict(models: dict[str, Model]) -> dict:
    """What calibration.json holds: `reach`, and each model's curves and threshold."""
    return {
        "reach": models["encoder"].out_of_collection_cosine,
        **{name: models[name].calibration.to_dict() for name in MODELS},
    }


def models_from_dict(curves: dict, head: "Head | NoHead") -> dict[str, Model]:
    """The calibrated models by name; ValueError for values that are none."""
    if not isinstance(curves, dict) or not {"reach", *MODELS} <= curves.keys():
        raise ValueError(f"expected reach, {' and '.join(MODELS)}, got {curves!r:.200}")
    encoder, learnt = (Calibration.from_dict(curves[name]) for name in MODELS)
    out_of_collection_cosine = curves["reach"]
    if (
        not isinstance(out_of_collection_cosine, float)
        or not -1 <= out_of_collection_cosine <= 1.001
    ):
        raise ValueError(f"expected a reach, a cosine, got {out_of_collection_cosine!r:.200}")
    return {
        "encoder": Model(calibration=encoder, out_of_collection_cosine=out_of_collection_cosine),
        "head": Model.with_head(head, learnt, out_of_collection_cosine),
    }


def calibrated_models(of: Round, head: "Head | NoHead" = NO_HEAD) -> dict[str, Model]:
    """The encoder and a head, calibrated as a finished round left them; ValueError where that is
    missing or broken.
    """
    file, again = of.model / "calibration.json", f"remove {of.model} and run the study again"
    of.as_stage().check("model/calibration.json")
    curves = read_json(file, "reach", *MODELS)
    try:
        return models_from_dict(curves, head)
    except ValueError as error:
        raise ValueError(f"{file}: {error}; {again}") from None


def load_models(of: Round) -> dict[str, Model]:
    """The encoder and the head of a finished round with their calibrations, by name.

    Raises
    ------
    ValueError
        where the round's head or calibration is missing, broken, or not what its manifest says.
    """
    from imgsearch_utils.learning.heads import load_head

    of.as_stage().check("model/head.safetensors", "model/config.json")
    return calibrated_models(of, load_head(of.model))


def model_vectors(run: Run, embeddings: Embeddings, model: Model, keep: bool = False) -> np.ndarray:
    """A model's vectors (n, e) of all images with embeddings; the saved ones where this head made
    them of these.

    keep : save a head's vectors in the run's folder

    Saved vectors are known by the digests of the head and of the embeddings that they were made of.
    """
    if model.name == "encoder":
        return embeddings.vectors
    model.head.check_fits(embeddings)
    folder, made_of = (
        run.vectors / model.name,
        {"head_sha256": model.head.sha256, "made_of": embeddings.sha256},
    )
    config = plain({**embeddings.config, "head": model.head.settings.model_dump(), **made_of})
    if (folder / "config.json").is_file():
        saved = Embeddings.load(folder)
        if (saved.config, saved.names, saved.digests) == (
            config,
            embeddings.names,
            embeddings.digests,
        ):
            return saved.vectors
    vectors = model.vectors(np.asarray(embeddings.vectors))
    if keep:
        Embeddings(embeddings.names, vectors, config, embeddings.digests).save(folder)
    return vectors


def class_round(run: Run, before: int) -> Round | None:
    """The last of the rounds before this number that learnt from the classes alone, where search
    used what it learnt; what grades teach has to be better than that.
    """
    rounds = [this for this in run.rounds_made if this.number < before and this.finished]
    rounds = [this for this in rounds if this.by_classes and this.metrics["promoted"]]
    return rounds[-1] if rounds else None


def round_in_search(run: Run) -> Round | None:
    """The round whose head search uses; None where it uses the encoder.

    It is the last one where that was promoted; else the one that learnt from the classes.
    """
    if not run.rounds_made:
        return None
    last = run.last_round
    return last if last.metrics["promoted"] else class_round(run, last.number)


def model_in_use(run: Run, name: str = "") -> Model:
    """The model that search uses: the head of ``round_in_search``, else the encoder.

    name : "encoder" or "head", to choose oneself; the head is the last round's

    Before the first finished round it is the encoder, without a calibration.
    """
    if name not in ("", *MODELS):
        raise ValueError(f"no model is called {name}. {nearest(name, MODELS)}")
    if name != "head" and not run.rounds_made:
        return Model()
    last, used = run.last_round, round_in_search(run)
    if name == "head":
        return load_models(last)["head"]
    if not name and used and not head_left_out(run):
        return load_models(used)["head"]
    return calibrated_models(last)["encoder"]


def head_left_out(run: Run) -> str:
    """What has to be said where a published run's search would use a head that is not kept with
    it; empty where that is not so.
    """
    used = round_in_search(run) if run.published else None
    if used is None or (used.model / "head.safetensors").is_file():
        return ""
    return (
        f"run {run.name} is published without its heads: the encoder answers here, not the head "
        f"of round {used.number}, which its report is about; a run of your own has its head: "
        f"imgsearch run {run.study.study}"
    )
