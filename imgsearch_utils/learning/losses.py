"""Losses on graded pairs, by name."""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from imgsearch_utils.study import HeadSettings
from imgsearch_utils.workspace.registry import Registry

# : name -> builder(settings) of a module: (cosines (n,), rows i (n,), rows j (n,), grades (n,)) ->
# loss (); the rows say
#: which pairs share an image
LOSSES = Registry("loss")


def _weights(grades, settings):
    return torch.tensor(settings.weights)[grades]


class _Loss(torch.nn.Module):
    def __init__(self, settings: HeadSettings):
        super().__init__()
        self.settings = settings


@LOSSES.register("graded_mse")
class GradedMSE(_Loss):
    """Squared distance of the cosine to its grade's target (``targets``), weighted by grade."""

    def forward(self, cosines, i, j, grades):
        targets = torch.tensor(self.settings.targets, dtype=cosines.dtype)[grades]
        weights = _weights(grades, self.settings)
        return (weights * (cosines - targets) ** 2).sum() / weights.sum()


@LOSSES.register("ordinal")
class Ordinal(_Loss):
    """Cumulative logits P(grade >= k) = sigmoid(slope cos - cut_k), k = 1..3, fitted with the head
    (McCullagh 1980).
    """

    def __init__(self, settings):
        super().__init__(settings)
        self.log_slope = torch.nn.Parameter(torch.tensor(1.5))
        self.cuts = torch.nn.Parameter(torch.tensor([0.5, 1.5, 2.5]))

    def forward(self, cosines, i, j, grades):
        logits = self.log_slope.exp() * cosines[:, None] - self.cuts
        reached = (grades[:, None] >= torch.arange(1, 4)).to(logits.dtype)
        weights = _weights(grades, self.settings)
        losses = binary_cross_entropy_with_logits(logits, reached, reduction="none").mean(1)
        return (weights * losses).sum() / weights.sum()


@LOSSES.register("cosent")
class CoSENT(_Loss):
    """Log-sum-exp over all pairs of pairs whose cosines stand in the wrong order of grades (Su
    2022), scale 20.

    Mean over the orderable pairs of pairs instead of their sum, so that the batch size does not
    change the scale."""

    scale = 20.0

    def forward(self, cosines, i, j, grades):
        wrong = (
            self.scale * (cosines[None, :] - cosines[:, None])[grades[:, None] > grades[None, :]]
        )
        return torch.logsumexp(torch.cat([wrong.new_zeros(1), wrong]), 0) / self.scale


@LOSSES.register("contrastive")
class Contrastive(_Loss):
    """Grade 3 is drawn together, every other grade pushed ``margin`` apart (Hadsell et al. 2006);
    Euclidean distance.

    Squared distances of unit vectors, and squared hinges.
    """

    def forward(self, cosines, i, j, grades):
        distance = torch.sqrt((2 - 2 * cosines).clamp_min(0) + 1e-12)
        hinge = torch.relu(self.settings.margin - distance)
        weights = _weights(grades, self.settings)
        return (weights * torch.where(grades == 3, distance, hinge) ** 2).sum() / weights.sum()


@LOSSES.register("contrastive_apart")
class ContrastiveApart(_Loss):
    """Grade 3 is drawn together, every other grade pushed 1 apart; Euclidean distances, the two
    kinds averaged apart, so that many pairs of one kind do not outweigh few of the other (the form
    of pytorch-metric-learning, Musgrave et al., arXiv 2008.09164).

    The means are of the pairs that still lose something.
    """

    apart = 1.0  # of unit vectors: a cosine of .5

    def forward(self, cosines, i, j, grades):
        distance = torch.sqrt((2 - 2 * cosines).clamp_min(0) + 1e-12)
        similar, others = distance[grades == 3], self.apart - distance[grades < 3]
        losing = [part[part > 0] for part in (similar, others)]
        return sum((part.mean() for part in losing if len(part)), cosines.sum() * 0)


@LOSSES.register("triplet")
class Triplet(_Loss):
    """Triplet margin on the cosine, semi-hard mining (Schroff et al. 2015), over labelled pairs
    that share an image.

    A triplet is (anchor, positive, negative) with grade(anchor, positive) > grade(anchor,
    negative). It counts while the negative is farther than the positive, but by less than the
    margin; where a batch has no semi-hard triplet, all that break the margin count."""

    def forward(self, cosines, i, j, grades):
        anchor, cosine, grade = (
            torch.cat([i, j]),
            torch.cat([cosines, cosines]),
            torch.cat([grades, grades]),
        )
        positive, negative = torch.nonzero(
            (anchor[:, None] == anchor[None, :]) & (grade[:, None] > grade[None, :]), as_tuple=True
        )
        gap = cosine[positive] - cosine[negative]
        semi_hard = (gap > 0) & (gap < self.settings.margin)
        chosen = gap[semi_hard if semi_hard.any() else gap < self.settings.margin]
        return (self.settings.margin - chosen).mean() if len(chosen) else cosines.sum() * 0
