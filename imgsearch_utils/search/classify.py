"""What class is a picture of: by its neighbours, by a linear probe, by words, by a ready-made
classifier.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from imgsearch_utils.encoders.embed_collection import open_images
from imgsearch_utils.encoders.encoder import Encoder
from imgsearch_utils.images.study_images import Images
from imgsearch_utils.metrics import bootstrap, expected_calibration_error
from imgsearch_utils.metrics.geometry import normalised
from imgsearch_utils.search.ready_made_classes import shared_classifier
from imgsearch_utils.study import ClassifierSettings, nearest
from imgsearch_utils.workspace import Run

NEIGHBOURS = 30
PROMPT = "a photo of a {}"  # Radford et al., Learning Transferable Visual Models, ICML 2021


def _by_cosine(distances: np.ndarray) -> np.ndarray:
    """A neighbour's weight, exp(cosine / .05) (Wu et al., CVPR 2018), from Euclidean distances of
    unit vectors.
    """
    return np.exp((1 - distances**2 / 2) / 0.05)


def _logits(p: np.ndarray) -> np.ndarray:
    """Log-probabilities (n, n_classes); every class keeps a twentieth of an even share."""
    return np.log(0.95 * p.astype(float) + 0.05 / p.shape[1])


def _folds(classes: np.ndarray, groups: np.ndarray) -> list:
    """Up to five folds of whole image groups, each with two classes outside of it; none where that
    cannot be.
    """
    n = min(5, len(np.unique(groups)))
    folds = list(GroupKFold(n).split(classes, groups=groups)) if n > 1 else []
    return folds if all(len(np.unique(classes[train])) > 1 for train, _ in folds) else []


def _temperature(logits: np.ndarray, classes: np.ndarray, truth: np.ndarray) -> float:
    """The temperature that gives the smallest log loss for the true classes (n,)."""
    rows, column = np.arange(len(truth)), np.searchsorted(classes, truth)
    lost = minimize_scalar(
        lambda t: -log_softmax(logits / np.exp(t), axis=1)[rows, column].mean(), bounds=(-3, 3)
    )
    return float(np.exp(lost.x))


@dataclass(frozen=True)
class Classifier:
    """The study's classes of one level, learnt on the training images, and calibrated on them by
    cross-validation.

    level : the class column
    images : those of the study
    mean : (d,) of the normalised training vectors, which is subtracted
    methods : name -> a fitted classifier of scikit-learn, and the temperature that divides its
        log-probabilities
    calibrated : whether the temperatures are known; not for too few images to leave some out
    """

    level: str
    images: Images
    mean: np.ndarray
    methods: dict
    calibrated: bool

    @classmethod
    def fit(cls, run: Run, level: str = "") -> "Classifier":
        """Fit on a run's images, with a temperature for each method (Guo et al., ICML 2017), by
        cross-validation.

        level : a class column; the finest when empty

        Raises
        ------
        ValueError
            for a run without sides or classes, and an unknown level.
        """
        images = open_images(run)
        if not images.class_columns:
            raise ValueError(
                f"the images of run {run.name} have no classes; give them folders or a labels.csv"
            )
        if level and level not in images.class_columns:
            raise ValueError(
                f"no class column is called {level}. {nearest(level, images.class_columns)}"
            )
        level, train = level or images.class_columns[-1], images.train
        classes = train.table[level]
        if classes.nunique() < 2:
            raise ValueError(
                f"classifying needs two classes of {level} among the training images, got one"
            )
        mean, truth = normalised(train.vectors).mean(0), classes.to_numpy()
        x, folds = (
            normalised(normalised(train.vectors) - mean),
            _folds(truth, train.table.group.to_numpy()),
        )
        near = KNeighborsClassifier(max(1, min(NEIGHBOURS, len(train) // 2)), weights=_by_cosine)
        methods = {}
        for name, model in (
            ("neighbours", near),
            ("linear probe", LogisticRegression(C=10.0, max_iter=2000)),
        ):
            with warnings.catch_warnings():
                # classes of few images, all of them perhaps in one fold
                warnings.simplefilter("ignore")
                temperature, model = 1.0, model.fit(x, truth)
                if folds:
                    held_out = cross_val_predict(
                        clone(model), x, truth, cv=folds, method="predict_proba"
                    )
                    temperature = _temperature(_logits(held_out), model.classes_, truth)
            methods[name] = (model, temperature)
        return cls(level, images, mean, methods, bool(folds))

    def prepare(self, vectors: np.ndarray) -> np.ndarray:
        """Normalise, centre, normalise: (n, d) -> (n, d)."""
        return normalised(normalised(vectors) - self.mean)

    def classify(self, vectors: np.ndarray, top: int = 5) -> pd.DataFrame:
        """The likeliest classes of encoder vectors (n, d): query, method, rank, class, p,
        calibrated.
        """
        x = self.prepare(vectors)
        tables = [
            _table(
                name,
                softmax(_logits(model.predict_proba(x)) / temperature, axis=1),
                model.classes_,
                top,
                self.calibrated,
            )
            for name, (model, temperature) in self.methods.items()
        ]
        return pd.concat(tables, ignore_index=True)

    def evaluate(self, side: str = "test") -> pd.DataFrame:
        """Share of a side's images that each method and two baselines name rightly.

        Returns
        -------
        method, images, accuracy with its 95 % interval by bootstrap over image groups (low, high),
        top5 (NaN with five classes or fewer), ece (of the first class's probability; NaN for the
        baselines); no row without images"""
        columns = ["method", "images", "accuracy", "low", "high", "top5", "ece"]
        images, train = self.images.split(side), self.images.train
        if not len(images):
            return pd.DataFrame(columns=columns)
        x, x_train = self.prepare(images.vectors), self.prepare(train.vectors)
        baselines = {
            "nearest image": KNeighborsClassifier(1),
            "most frequent class": DummyClassifier(),
        }
        rivals = {
            name: (model.fit(x_train, train.table[self.level]), 1)
            for name, model in baselines.items()
        }
        truth, rows = images.table[self.level].to_numpy(object), []
        for name, (model, temperature) in {**self.methods, **rivals}.items():
            p = softmax(_logits(model.predict_proba(x)) / temperature, axis=1)
            first = model.classes_[np.argsort(-p, axis=1, kind="stable")[:, :5]]
            right = first[:, 0] == truth
            top5 = (first == truth[:, None]).any(1).mean() if len(model.classes_) > 5 else np.nan
            more = (
                (top5, expected_calibration_error(right, p.max(1)))
                if name in self.methods
                else (np.nan, np.nan)
            )
            rows.append((name, len(images), *bootstrap(right, images.table.group), *more))
        return pd.DataFrame(rows, columns=columns)


def _table(
    method: str, p: np.ndarray, classes: Sequence[str], top: int, calibrated: bool
) -> pd.DataFrame:
    order = np.argsort(-p, axis=1, kind="stable")[:, :top]
    n, n_classes = order.shape
    return pd.DataFrame(
        {
            "query": np.repeat(np.arange(n), n_classes),
            "method": method,
            "rank": np.tile(np.arange(1, n_classes + 1), n),
            "class": np.asarray(classes)[order].ravel(),
            "p": np.take_along_axis(p, order, 1).ravel(),
            "calibrated": calibrated,
        }
    )


def by_words(
    encoder: Encoder, vectors: np.ndarray, classes: Sequence[str], top: int = 5
) -> pd.DataFrame:
    """Zero-shot: the classes whose words are nearest to encoder vectors (n, d), CLIP's temperature
    .01; as `classify`.

    Raises
    ------
    ValueError
        where the encoder has no tower for text.
    """
    if encoder.encode_texts is None:
        raise ValueError(
            f"{encoder.config['encoder']} has no tower for text; take an open_clip encoder"
        )
    words = encoder.encode_texts(
        [PROMPT.format(str(name).replace("_", " ").replace("-", " ")) for name in classes]
    )
    return _table(
        "words",
        softmax(100 * normalised(vectors) @ normalised(words).T, axis=1),
        classes,
        top,
        False,
    )


def ready_made(
    pictures: Sequence[Image.Image], settings: ClassifierSettings, top: int = 5
) -> pd.DataFrame:
    """Classes of a classifier that was trained elsewhere (``ReadyMade``), not calibrated; as
    `classify`.
    """
    classifier = shared_classifier(settings)
    return _table(classifier.method, classifier.classify(pictures), classifier.classes, top, False)


def figure(picture: Image.Image, table: pd.DataFrame):
    """The picture, and beside it the probabilities of each method's first classes, as a matplotlib
    figure.

    table : one query's rows of `classify`, `by_words`, `ready_made`
    """
    from imgsearch_utils.plots import Plot, literal

    methods = list(table.groupby("method", sort=False))
    drawn = Plot(figsize=(3 + 3.2 * len(methods), 3))
    first, *others = drawn.subplots(1, 1 + len(methods))
    first.imshow(picture)
    first.axis("off")
    for axes, (method, rows) in zip(others, methods):
        synonyms = method.startswith(("ImageNet", "timm:"))  # a class has several names there
        names = [literal((name.split(",")[0] if synonyms else name)[:24]) for name in rows["class"]]
        # two names may be cut alike
        bars = axes.barh(range(len(rows)), rows.p, tick_label=names, color="#5b7a99")
        axes.bar_label(bars, fmt="%.2f", padding=2, fontsize=8)
        axes.invert_yaxis()
        axes.set(
            xlim=(0, 1.15),
            xlabel="P(class)",
            title=method + ("" if rows.calibrated.all() else ", uncalibrated"),
        )
        axes.tick_params(labelsize=8)
        axes.grid(visible=False)
    return drawn
