"""What others train on the same graded pairs: networks by the contrastive loss of
pytorch-metric-learning, grade 3 against the rest; each from the pairs alone, or with classes too.

They work on all numbers of the vectors, know no unlabelled pairs, and are not chosen among
candidates. The loss is the library's as it comes: a margin of 1, similar pairs and others averaged
apart, each over the pairs that it is not 0 of. Classes, where they are used, stand beside the
network as in the package's own heads."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pandas as pd
import torch
from pytorch_metric_learning.losses import ContrastiveLoss

from imgsearch_utils.encoders.encoder import one_thread
from imgsearch_utils.images import Images
from imgsearch_utils.learning import Model
from imgsearch_utils.learning.head_training import PairRows
from imgsearch_utils.learning.heads import PLAIN, Head
from imgsearch_utils.learning.training_statistics import TrainingStatistics
from imgsearch_utils.study import HeadSettings

LIBRARY_EPOCHS, LIBRARY_RATE = 10, 1e-3  # of the library's recipe; the rate is Adam's own default


def _fit(images, pairs, settings, seed, epochs: int, optimizer: Callable) -> Model:
    rows, loss = PairRows(images, pairs), ContrastiveLoss()
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        known = TrainingStatistics.of(images.vectors, images.classes.to_numpy(str), settings)
        known = replace(known, basis=torch.eye(images.vectors.shape[1]))  # the network sees all
        head = Head.untrained(known, settings, PLAIN, (rows.vectors[:0], rows.vectors[:0]))
        x, steps = head.centred(rows.vectors), optimizer(head.parameters())
        for _ in range(epochs):
            for batch in torch.randperm(len(rows)).split(settings.batch_size):
                used, at = torch.unique(
                    torch.cat([rows.i[batch], rows.j[batch]]), return_inverse=True
                )
                (i, j), similar = at.reshape(2, -1), rows.grades[batch] == 3
                kinds = i[similar], j[similar], i[~similar], j[~similar]
                steps.zero_grad()
                loss(head.networks_part(x[used]), indices_tuple=kinds).backward()
                steps.step()
    return Model.with_head(head.eval())


def contrastive_residual(
    images: Images, pairs: pd.DataFrame, settings: HeadSettings, seed: int, classes: bool
) -> Model:
    """x + MLP(x), trained as `settings` say but for the loss.

    images : those that may teach; their mean centres the vectors
    classes : whether their classes stand beside the network
    """
    settings = settings.model_copy(
        update={"head": "residual", "class_share": settings.class_share * classes}
    )
    rates = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    optimizer = partial(torch.optim.AdamW, **rates)
    return _fit(images, pairs, settings, seed, settings.epochs, optimizer)


def metric_learning(
    images: Images, pairs: pd.DataFrame, settings: HeadSettings, seed: int, classes: bool
) -> Model:
    """The library's recipe: a linear head that begins as the identity, ten epochs of Adam; nothing
    was tuned.

    images, classes : as of ``contrastive_residual``
    """
    settings = settings.model_copy(
        update={"head": "linear", "class_share": settings.class_share * classes}
    )
    optimizer = partial(torch.optim.Adam, lr=LIBRARY_RATE)
    return _fit(images, pairs, settings, seed, LIBRARY_EPOCHS, optimizer)


def without_classes(images: Images) -> Images:
    """The same images, of which nobody knows the class."""
    return replace(images, table=images.table.drop(columns=images.class_columns))


#: name -> (images, graded pairs, settings, seed) -> model
RIVALS = {
    f"{name}, {kind}": partial(fit, classes=classes)
    for name, fit in (
        ("pytorch-metric-learning", metric_learning),
        ("contrastive residual", contrastive_residual),
    )
    for kind, classes in (("pairs alone", False), ("with classes", True))
}
