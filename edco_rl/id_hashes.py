"""Ids of prompts as hashes of 64 bits, which are kept and compared in their place."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest


def hash_ids(ids: Sequence[str]) -> NDArray[np.uint64]:
    """A hash of each id, shape (N,); the ids are read once, one after the other."""
    return np.fromiter((xxh3_64_intdigest(one.encode()) for one in ids), dtype=np.uint64, count=len(ids))


def first_double(hashes: NDArray[np.uint64]) -> tuple[int, int] | None:
    """The first number whose hash was there before, after the number it was first met at; `None` if none was."""
    ascending = np.sort(hashes)
    twice = np.unique(ascending[1:][ascending[1:] == ascending[:-1]])
    if not len(twice):
        return None
    places = np.flatnonzero(np.isin(hashes, twice))
    _, first = np.unique(hashes[places], return_index=True)
    again = places[np.setdiff1d(np.arange(len(places)), first)[0]]
    return int(np.flatnonzero(hashes == hashes[again])[0]), int(again)
