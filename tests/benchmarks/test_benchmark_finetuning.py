"""Throughput beside a bare loop, and the ablation on classes that were held out: small, but for
real.
"""

import json

import pandas as pd

from benchmarks import finetuning


def test_training_is_timed_beside_a_bare_loop(capsys):
    finetuning.main(["--images", "24", "--pixels", "48", "--turns", "1", "--json"])
    measured = json.loads(capsys.readouterr().out)
    assert (
        measured["images_per_s"] > 0 and measured["ratio_to_bare"] > 0 and measured["pixels"] == 48
    )


def test_what_is_held_out_is_measured_once(shared_data, tmp_path, monkeypatch, capsys):
    labels = pd.read_csv(shared_data / "grocery/labels.csv", dtype=str)
    few = labels[labels.fine.isin(labels.fine.unique()[::2])].groupby("fine").head(5)
    (tmp_path / "grocery").mkdir()
    (tmp_path / "grocery/images").symlink_to(shared_data / "grocery/images")
    few.to_csv(tmp_path / "grocery/labels.csv", index=False)
    monkeypatch.setenv("IMGSEARCH_DATA", str(tmp_path))
    monkeypatch.setenv("IMGSEARCH_HOME", str(tmp_path))
    given = [
        "--ablation",
        "--seeds",
        "1",
        "--ways",
        "fine-tuned",
        "--epochs",
        "1",
        "--pixels",
        "32",
        "--out",
        str(tmp_path),
    ]
    finetuning.main(given)
    table = pd.read_csv(tmp_path / "finetuning.csv")
    assert set(table.part) == {"unseen_images", "unseen_classes"} and set(table.measure) == set(
        finetuning.MEASURES
    )
    ways = {"fine-tuned", "fine-tuned, halfway", "fine-tuned, then a head"}
    assert (
        set(table.model) == {finetuning.FROZEN, finetuning.HEAD, *ways} and len(table) == 2 * 5 * 3
    )
    own = table[table.model == "fine-tuned"]
    assert (
        own[["gain", "gain_over_head"]].notna().all(axis=None) and table["mean"].between(0, 1).all()
    )
    stamp = (tmp_path / "finetuning.csv").stat().st_mtime_ns
    finetuning.main(given)
    assert (
        tmp_path / "finetuning.csv"
    ).stat().st_mtime_ns == stamp and "over_head" in capsys.readouterr().out
