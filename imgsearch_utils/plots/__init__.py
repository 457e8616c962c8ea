"""In: tables. Out: matplotlib figures, which notebooks and pages show and save."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "canvas": [
            "GRADES",
            "MODELS",
            "SPLITS",
            "Plot",
            "axes_grid",
            "legend_below",
            "legend_beside",
            "literal",
            "of_rows",
            "save",
        ],
        "curve_figures": [
            "costs",
            "curves_with_bands",
            "explained_variance",
            "finetuning_curve",
            "rounds",
            "training_curves",
        ],
        "model_figures": ["by_class", "candidates", "class_confusion", "encoders", "retrieval"],
        "pair_figures": [
            "class_counts",
            "confusion",
            "grade_counts",
            "precision_recall",
            "score_distributions",
        ],
        "picture_figures": ["picture_grid", "picture_map"],
    },
)
