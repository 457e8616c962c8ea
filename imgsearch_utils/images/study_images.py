"""The images of a study as one thing: their classes, near-duplicate groups, sides and vectors."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from imgsearch_utils.images.embeddings import Embeddings
from imgsearch_utils.images.listed_names import RESERVED


@dataclass(frozen=True)
class Images:
    """The images that take part, or some of them.

    table : one row an image: `image`, the class columns from coarse to fine, and once they are
        known `group` (near-duplicates have one) and `side` (train, dev, test)
    embeddings : the encoder's vectors of these images, and perhaps of others

    A pairs table has the columns image1 and image2, each an image's name.
    """

    table: pd.DataFrame
    embeddings: Embeddings

    @classmethod
    def of(cls, embeddings: Embeddings) -> "Images":
        """Images of which nothing but the vectors is known."""
        return cls(pd.DataFrame({"image": embeddings.names}, dtype=object), embeddings)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def names(self) -> list[str]:
        return self.table.image.tolist()

    @property
    def class_columns(self) -> list[str]:
        """From coarse to fine; empty for a study without classes."""
        return [name for name in self.table if name not in RESERVED]

    @property
    def class_column(self) -> str | None:
        """The coarsest class: pairs across it are grade 0 without asking."""
        return next(iter(self.class_columns), None)

    @property
    def classes(self) -> pd.Series:
        """The coarsest class by image; one and the same for all where there are no classes."""
        values = self.table[self.class_column] if self.class_column else ""
        return pd.Series(
            values if isinstance(values, str) else values.to_numpy(object), self.names, dtype=object
        )

    @property
    def has_classes(self) -> bool:
        """Whether there are two classes or more."""
        return self.classes.nunique() > 1

    @property
    def train(self) -> "Images":
        return self.split("train")

    def split(self, name: str) -> "Images":
        """The images of one split: train, dev or test."""
        return self._of(self.table.side == name)

    def among(self, names: Iterable[str]) -> "Images":
        """Those of the images that are named."""
        return self._of(self.table.image.isin(list(names)))

    def _of(self, rows) -> "Images":
        return replace(self, table=self.table[rows])

    @property
    def vectors(self) -> np.ndarray:
        """(n, d), in the order of the table."""
        return self.vectors_of(self.names)

    def vectors_of(self, names: Iterable[str]) -> np.ndarray:
        """Vectors (len(names), d); ValueError names images that have none."""
        return self.embeddings.of(names)

    @cached_property
    def _by_name(self) -> pd.DataFrame:
        return self.table.set_index("image")

    def of_pairs(self, pairs: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray]:
        """A column of the table for the first and the second image of each pair, both
        (n_pairs,).
        """
        values = self._by_name[column].to_numpy()
        rows = [self._by_name.index.get_indexer(pairs[name]) for name in ("image1", "image2")]
        for name, row_numbers in zip(("image1", "image2"), rows):
            if (row_numbers < 0).any():
                raise KeyError(pairs[name][row_numbers < 0].iloc[0])
        return values[rows[0]], values[rows[1]]

    def same_class(self, pairs: pd.DataFrame) -> np.ndarray:
        """Which pairs are of one class: (n_pairs,) bool; all of them where there are no classes."""
        if not self.class_column:
            return np.ones(len(pairs), bool)
        one, two = self.of_pairs(pairs, self.class_column)
        return np.asarray(one == two, bool)

    def both_of(self, pairs: pd.DataFrame) -> pd.DataFrame:
        """The pairs whose two images are both among these."""
        return pairs[
            pairs.image1.isin(self._by_name.index) & pairs.image2.isin(self._by_name.index)
        ]

    def rows_of(self, pairs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the embeddings of the first and the second image of each pair; ValueError where
        there is none.
        """
        return self.embeddings.rows(pairs.image1), self.embeddings.rows(pairs.image2)

    def vectors_of_pairs(self, pairs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The pairs' images' vectors (m, d) float32, each once, and each pair's two rows of them,
        (n_pairs,).
        """
        rows, places = np.unique(np.concatenate(self.rows_of(pairs)), return_inverse=True)
        return np.asarray(self.embeddings.vectors[rows], np.float32), *places.reshape(2, -1)
