"""Scores the rows of a data set with an estimator."""

from .row_scorer import EncodedRows, RowScorer

__all__ = ["EncodedRows", "RowScorer"]
