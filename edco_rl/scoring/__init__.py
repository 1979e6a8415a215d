"""Scores the rows of a data set with an estimator."""

from .row_scorer import EncodedRows, RowScorer, has_short_references

__all__ = ["EncodedRows", "RowScorer", "has_short_references"]
