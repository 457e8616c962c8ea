"""What a drawn house is like: its attributes, the nuisances around it, and the rubric that grades a
pair.
"""

import numpy as np
import pandas as pd

HOUSE_TYPES = ("farmhouse", "modern", "rustic")

FEATURES = ("porch", "garage", "chimney", "pool")

# Each type is a few sub-styles; a house follows one of them, with noise.
_FIELDS = (
    "weight",
    "floors",
    "bays",
    "boldness",
    "palette",
    "material",
    "roof",
    "features",
    "grounds",
    "setting",
    "feel",
)
_SUB_STYLES = {
    "farmhouse": (
        (
            0.40,
            2,
            3,
            "regular",
            "light",
            "siding",
            "gable",
            "porch chimney",
            "field",
            "rural",
            "open",
        ),
        (0.35, 2, 4, "bold", "dark", "boards", "gambrel", "garage", "field", "rural", "closed"),
        (0.25, 1, 4, "bold", "dark", "brick", "hip", "porch garage", "garden", "urban", "closed"),
    ),
    "modern": (
        (0.40, 1, 5, "regular", "light", "glass", "flat", "pool", "lawn", "rural", "open"),
        (
            0.35,
            2,
            4,
            "regular",
            "dark",
            "concrete",
            "flat",
            "garage pool",
            "paved",
            "urban",
            "closed",
        ),
        (0.25, 3, 3, "bold", "light", "stucco", "shed", "garage", "garden", "urban", "open"),
    ),
    "rustic": (
        (
            0.40,
            1,
            3,
            "regular",
            "dark",
            "logs",
            "gable",
            "porch chimney",
            "field",
            "rural",
            "closed",
        ),
        (0.30, 1, 2, "regular", "light", "stone", "hip", "chimney", "garden", "rural", "closed"),
        (
            0.30,
            2,
            4,
            "bold",
            "light",
            "logs",
            "gable",
            "porch chimney garage",
            "lawn",
            "rural",
            "open",
        ),
    ),
}
_NOISE = 0.24  # how often an attribute is taken from another house of any sub-style of the type

SEASONS = ("spring", "summer", "autumn", "winter")
TIMES = ("morning", "noon", "sunset", "night")
QUALITIES = ("sharp", "soft", "noisy", "compressed")

QUESTIONS = (
    "size",
    "boldness",
    "palette",
    "material",
    "roof",
    "features",
    "grounds",
    "setting",
    "feel",
)


def _attributes(house_type: str, rng: np.random.Generator) -> dict:
    styles = [dict(zip(_FIELDS, values)) for values in _SUB_STYLES[house_type]]
    weights = np.array([style["weight"] for style in styles])

    def draw():
        return styles[rng.choice(len(styles), p=weights)]

    own = draw()
    house = {}
    for name in _FIELDS[1:]:
        source = draw() if rng.random() < _NOISE else own
        if name == "features":
            for feature in FEATURES:
                has = feature in source["features"].split()
                house[feature] = bool(has != (rng.random() < _NOISE / 4))
        else:
            house[name] = source[name]
    if rng.random() < _NOISE / 3:
        house["setting"] = "rural" if house["setting"] == "urban" else "urban"
    house["bays"] = int(np.clip(house["bays"] + rng.integers(-1, 2), 2, 5))
    return house


def _nuisances(rng: np.random.Generator) -> dict:
    return {
        "camera_yaw": round(float(rng.uniform(-48, 48)), 1),
        "camera_height": round(float(rng.uniform(2.0, 6.5)), 2),
        "camera_zoom": round(float(rng.uniform(0.6, 1.0)), 3),
        "season": str(rng.choice(SEASONS)),
        "time_of_day": str(rng.choice(TIMES, p=[0.25, 0.25, 0.25, 0.25])),
        "image_quality": str(rng.choice(QUALITIES, p=[0.34, 0.22, 0.22, 0.22])),
        "people": int(rng.choice(4, p=[0.5, 0.25, 0.15, 0.1])),
        "cars": int(rng.choice(3, p=[0.6, 0.3, 0.1])),
        "detail_seed": int(rng.integers(2**31)),
    }


def sample_houses(per_type: int, seed: int = 0) -> pd.DataFrame:
    """Describe `per_type` houses of each type; house i of a type depends on (seed, type, i) alone.

    Returns
    -------
    DataFrame with one row a house: ``file_label``, ``house_type``; the attributes that answer the
    rubric (``floors``, ``bays``, ``boldness``, ``palette``, ``material``, ``roof``, ``porch``,
    ``garage``, ``chimney``, ``pool``, ``grounds``, ``setting``, ``feel``); the nuisances,
    independent of the attributes (``camera_yaw`` in degrees, ``camera_height`` in metres,
    ``camera_zoom``, ``season``, ``time_of_day``, ``image_quality``, ``people``, ``cars``) and
    ``detail_seed``, from which the drawing takes its small liberties.

    Raises
    ------
    ValueError
        when `per_type` is below 1 or `seed` below 0.
    """
    if per_type < 1 or seed < 0:
        raise ValueError(
            f"expected per_type >= 1 and seed >= 0, got per_type={per_type}, seed={seed}"
        )
    rows = []
    for t, house_type in enumerate(HOUSE_TYPES):
        for i in range(per_type):
            row = {"file_label": f"{house_type}_{i + 1:04d}.jpg", "house_type": house_type}
            row |= _attributes(house_type, np.random.default_rng([seed, t, i, 0]))
            rows.append(row | _nuisances(np.random.default_rng([seed, t, i, 1])))
    return pd.DataFrame(rows)


def _answers(a: pd.DataFrame, b: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Answer the questions for the pairs (row i of a, row i of b): relevant and yes, each bool (n,
    9).
    """
    has_a, has_b = a[list(FEATURES)].to_numpy(bool), b[list(FEATURES)].to_numpy(bool)
    shared, either = (has_a & has_b).sum(1), (has_a | has_b).sum(1)
    same = {name: a[name].to_numpy() == b[name].to_numpy() for name in QUESTIONS if name in a}
    same["size"] = (a["floors"].to_numpy() == b["floors"].to_numpy()) & (
        np.abs(a["bays"].to_numpy() - b["bays"].to_numpy()) <= 1
    )
    same["features"] = 2 * shared >= either
    yes = np.stack([same[name] for name in QUESTIONS], axis=1)
    relevant = np.ones_like(yes)
    relevant[:, QUESTIONS.index("features")] = either > 0
    relevant[:, QUESTIONS.index("grounds")] = ~(
        same["grounds"] & (a["grounds"].to_numpy() == "paved")
    )
    return relevant, yes & relevant


def grade_pairs(houses: pd.DataFrame, pairs: pd.DataFrame) -> np.ndarray:
    """Grade pairs by the published study's rubric; symmetric in the two images.

    Of the relevant questions, more than 2/3 "yes" is grade 3, 1/3 to 2/3 grade 2, less grade 1
    (compared as whole numbers); another house type is grade 0. The questions, always relevant
    unless said otherwise:

    1. size: the same number of floors, and widths that differ by at most one bay of windows
    2. boldness: both of bold colours, or both of regular ones
    3. palette: both light, or both dark
    4. material: walls of the same material
    5. roof: the same form of building and roof
    6. features: of the porches, garages, chimneys and pools that either has, both have at least
       half; relevant when either has any
    7. grounds: both in a garden, on a lawn, in an open field, or on paving; relevant unless both
       stand on paving
    8. setting: both urban, or both rural
    9. feel: both open (large windows, no enclosure), or both closed (small windows, behind a fence
       or hedge)

    Parameters
    ----------
    houses : as from `sample_houses`
    pairs : columns ``image1`` and ``image2``, file labels of `houses`

    Returns
    -------
    int array (n_pairs,) of 0..3

    Raises
    ------
    ValueError
        when a pair names an image that is not among the houses.
    """
    known = houses.set_index("file_label", verify_integrity=True)
    unknown = sorted(set(pairs["image1"]).union(pairs["image2"]).difference(known.index))
    if unknown:
        raise ValueError(
            f"{len(unknown)} images of the pairs are not among the {len(known)} houses: "
            f"{unknown[0]}, ..."
        )
    a, b = known.loc[pairs["image1"]], known.loc[pairs["image2"]]
    relevant, yes = _answers(a, b)
    n_relevant, n_yes = relevant.sum(1), yes.sum(1)
    grades = np.where(3 * n_yes > 2 * n_relevant, 3, np.where(3 * n_yes >= n_relevant, 2, 1))
    return np.where(a["house_type"].to_numpy() == b["house_type"].to_numpy(), grades, 0)
