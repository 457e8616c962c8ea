"""In: grades and scores of pairs, or lists of results. Out: numbers, and what each is worth.

Pairs are measured in ``pair_metrics``, the order of results in ``ranking_metrics``, and the 95 %
intervals of both in ``intervals``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "intervals": [
            "ENOUGH",
            "ap_gain",
            "bootstrap",
            "mean_gain",
            "over_splits",
            "query_gain",
            "query_gains",
        ],
        "pair_metrics": [
            "SIMILAR",
            "Ceiling",
            "Chance",
            "calibration_by_chance",
            "decision_metrics",
            "expected_calibration_error",
            "grading_ceiling",
            "pair_metrics",
            "trivial_baselines",
        ],
        "ranking_metrics": ["class_confusion", "recall_at_k", "retrieval_metrics"],
    },
)
