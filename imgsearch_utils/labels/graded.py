"""The grades that may be used: of pairs whose images stand on one side, with what is known of the two images."""

import pandas as pd

from imgsearch_utils.labels.journal import AUTOMATIC, Journal
from imgsearch_utils.labels.pairs import key, read_pairs
from imgsearch_utils.vectors.images import Images
from imgsearch_utils.workspace import Round


def graded_pairs(upto: Round, images: Images) -> pd.DataFrame:
    """All current grades up to a round: image1, image2, similarity, round, side, automatic, same_class, group1, group2,
    and drawn: whether the pair was asked because chance, perhaps by strata of the encoder's cosine, had drawn it.

    Only pairs whose images stand on one side are returned; near-duplicates on train and another side are refused by
    name (ValueError): both would be a leak.
    """
    table = images.both_of(Journal(upto.run.journal).labels(up_to_round=upto.number)).reset_index(drop=True)
    (side, other), (group1, group2) = (images.of_pairs(table, column) for column in ("side", "group"))
    table = table.assign(side=side, automatic=table.source == AUTOMATIC, same_class=images.same_class(table),
                         group1=group1, group2=group2)
    drawn = {pair for this in map(upto.run.round, range(upto.number + 1)) if this.pairs.is_file()
             for pair in _drawn_at_random(read_pairs(this.pairs))}
    table["drawn"] = [key(one, two) in drawn for one, two in zip(table.image1, table.image2)]
    table = table[side == other].reset_index(drop=True)
    for name in ("dev", "test"):
        check_no_leak(table[table.side == "train"], table[table.side == name], images)
    return table


def _drawn_at_random(asked):
    """Keys of those of a round's pairs that no model chose."""
    asked = asked[asked.strategy.isin(["random", "stratified", AUTOMATIC])]
    return map(key, asked.image1, asked.image2)


def check_no_leak(train: pd.DataFrame, test: pd.DataFrame, images: Images) -> None:
    """Refuse two pair tables that share an image, or two images of one `group`.

    Raises
    ------
    ValueError
        naming up to five shared images, or the groups and their images on both sides.
    """
    one, two = (set(table.image1) | set(table.image2) for table in (train, test))
    if one & two:
        raise ValueError(f"leak: {len(one & two)} image(s) stand on both sides: {', '.join(sorted(one & two)[:5])}")
    group = dict(zip(images.table.image, images.table.group))
    shared = sorted({group[name] for name in one if name in group} & {group[name] for name in two if name in group})
    if shared:
        names = ", ".join(sorted(name for name in one | two if group.get(name) == shared[0]))
        raise ValueError(f"leak: {len(shared)} group(s) of near-duplicates on both sides, e.g. {shared[0]}: {names}")


def usable(pairs: pd.DataFrame, images: Images) -> pd.DataFrame:
    """The pairs of two different known images."""
    known = images.both_of(pairs)
    return known[known.image1 != known.image2].reset_index(drop=True)
