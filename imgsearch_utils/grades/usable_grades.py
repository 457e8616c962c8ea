"""The grades and votes that may be used: of pairs whose images stand on one side, with what is
known of the images.
"""

import pandas as pd
from pandas.api.types import is_numeric_dtype

from imgsearch_utils.grades.journal import AUTOMATIC, VOTE, Journal
from imgsearch_utils.grades.pairs import canonical, key, read_pairs
from imgsearch_utils.images.study_images import Images
from imgsearch_utils.study import BY_CHANCE
from imgsearch_utils.workspace import Round


def graded_pairs(upto: Round, images: Images) -> pd.DataFrame:
    """All current grades up to a round: image1, image2, similarity, round, side, automatic,
    same_class, group1, group2, strategy (which asked it; empty for none), and drawn: whether it was
    asked because chance, perhaps by strata of the encoder's cosine, had drawn it.

    Only pairs whose images stand on one side are returned; near-duplicates on train and another
    side are refused by name (ValueError): both would be a leak."""
    table = images.both_of(Journal(upto.run.journal).labels(up_to_round=upto.number)).reset_index(
        drop=True
    )
    (split, other), (group1, group2) = (
        images.of_pairs(table, column) for column in ("side", "group")
    )
    table = table.assign(
        side=split,
        automatic=table.source == AUTOMATIC,
        same_class=images.same_class(table),
        group1=group1,
        group2=group2,
    )
    asked_by = {
        key(one, two): strategy
        for pairs in _pairs_so_far(upto).values()
        for one, two, strategy in zip(pairs.image1, pairs.image2, pairs.strategy)
    }
    keys = map(key, table.image1, table.image2)
    table["strategy"] = [asked_by.get(pair, "") for pair in keys]
    table["drawn"] = table.strategy.isin(BY_CHANCE)
    table = table[split == other].reset_index(drop=True)
    for name in ("dev", "test"):
        check_no_leak(table[table.side == "train"], table[table.side == name], images)
    return table


def voted_pairs(upto: Round, images: Images) -> pd.DataFrame:
    """Pairs of train images with people's votes up to a round, and without a grade of theirs.

    Returns
    -------
    image1, image2, similarity: 3 where most votes say "similar", 0 where most say "not"; left out
    where they tie"""
    journal, rows = Journal(upto.run.journal), []
    labels = journal.labels(up_to_round=upto.number)
    graded = set(zip(*labels[labels.source != AUTOMATIC][["image1", "image2"]].to_numpy(object).T))
    for pair, by_annotator in journal.search_votes(upto.number).items():
        votes = [
            1 if act.act == "vote_up" else -1 for act in by_annotator.values() if act.source == VOTE
        ]
        if sum(votes) and pair not in graded:
            rows.append((*pair, 3.0 if sum(votes) > 0 else 0.0))
    return usable(pd.DataFrame(rows, columns=["image1", "image2", "similarity"]), images.train)


def graded_lists(upto: Round, images: Images) -> pd.DataFrame:
    """The graded results of lists that two models drafted in turns, up to a round: round, query,
    similarity, and the results' places in the models' orders, place_before and place_learnt.

    The grades are those that stand now, by all who graded. ValueError names a file of pairs whose
    places are no numbers, or that lacks one of these columns.
    """
    columns = ["round", "query", "similarity", "place_before", "place_learnt"]
    labels = Journal(upto.run.journal).labels(up_to_round=upto.number)
    labels = labels[labels.source != AUTOMATIC][["image1", "image2", "similarity"]]
    tables = [pd.DataFrame(columns=columns)]
    for number, pairs in _pairs_so_far(upto).items():
        if "place_learnt" in pairs:
            places = [pairs.get(name) for name in columns[3:]]
            if "query" not in pairs or not all(map(is_numeric_dtype, places)):
                raise ValueError(
                    f"{upto.run.round(number).pairs}: expected query, and numbers as place_before "
                    "and place_learnt; restore the file from a copy"
                )
            listed = canonical(usable(pairs[pairs.place_learnt.notna()], images.train))
            graded = listed.drop(columns="similarity").merge(labels, on=["image1", "image2"])
            tables.append(graded.assign(round=number)[columns])
    return pd.concat([table for table in tables if len(table)] or tables, ignore_index=True)


def _pairs_so_far(upto: Round) -> dict[int, pd.DataFrame]:
    """The pairs that rounds asked, by round; pairs of a file without strategies have an empty
    one.
    """
    rounds = [this for this in map(upto.run.round, range(upto.number + 1)) if this.pairs.is_file()]
    tables = {this.number: read_pairs(this.pairs) for this in rounds}
    return {
        number: table if "strategy" in table else table.assign(strategy="")
        for number, table in tables.items()
    }


def check_no_leak(train: pd.DataFrame, test: pd.DataFrame, images: Images) -> None:
    """Refuse two pair tables that share an image, or two images of one `group`.

    Raises
    ------
    ValueError
        naming up to five shared images, or the groups and their images on both sides.
    """
    one, two = (set(table.image1) | set(table.image2) for table in (train, test))
    if one & two:
        raise ValueError(
            f"leak: {len(one & two)} image(s) stand on both sides: "
            f"{', '.join(sorted(one & two)[:5])}"
        )
    group = dict(zip(images.table.image, images.table.group))
    shared = sorted(
        {group[name] for name in one if name in group}
        & {group[name] for name in two if name in group}
    )
    if shared:
        names = ", ".join(sorted(name for name in one | two if group.get(name) == shared[0]))
        raise ValueError(
            f"leak: {len(shared)} group(s) of near-duplicates on both sides, e.g. {shared[0]}: "
            f"{names}"
        )


def usable(pairs: pd.DataFrame, images: Images) -> pd.DataFrame:
    """The pairs of two different known images."""
    known_pairs = images.both_of(pairs)
    return known_pairs[known_pairs.image1 != known_pairs.image2].reset_index(drop=True)
