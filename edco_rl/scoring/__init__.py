"""Scores the rows of a data set with an estimator."""

from .row_scorer import EncodedRows, RowScorer, reference_text, tokenize_reference

__all__ = ["EncodedRows", "RowScorer", "reference_text", "tokenize_reference"]
