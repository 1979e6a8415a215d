"""Prompts that say the same: kept on one side of a split, and counted between any two sets."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .prompts import Prompt

# Punctuation that changes what a formula says; between words it does not.
_OPERATORS = "-*/%^()[]{}<>\\|#&@_"


class _Letters(dict[int, str]):
    """What each character becomes, found when it is first met: a letter, digit, mark or symbol stays, a dash is a
    minus, an apostrophe or invisible character goes, all else is a space."""

    def __missing__(self, code: int) -> str:
        character, category = chr(code), unicodedata.category(chr(code))
        if category == "Pd" or character == "\u2212":
            found = "-"
        elif category == "Cf" or 0xFE00 <= code <= 0xFE0F or character in "'\u2019\u02bc":
            found = ""
        elif character in f".{_OPERATORS}" or category[0] in "LMN" or category in ("Sm", "Sc", "So"):
            found = character
        else:
            found = " "
        self[code] = found
        return found


_LETTERS = _Letters()
_OPERATED = re.compile(rf"\s*[.{re.escape(_OPERATORS)}][.\s{re.escape(_OPERATORS)}]*")
_MARK = re.compile(r"[^\w\s]|_")
_WORD = re.compile(r"[^\W_]{2}|\d")
_NEEDLESS_SPACE = re.compile(r"(?<!\d) | (?!\d)")


def near_form(text: str) -> str:
    """The form that near-equal texts share: case, spaces, punctuation and the Unicode form make no difference.

    Where they belong to a formula they do: `2 - 1` is not `2 * 1`, `1.5` not `15`, `1 23` not `12 3`, `x/y` not `x*y`.
    So they do in a drawing, such as the board of a game: several lines without words and digits.
    """
    lines = text.splitlines()
    drawn = [line.rstrip() for line in lines if _MARK.search(line) and not _WORD.search(line)]
    if len(drawn) > 1:
        text = "\n".join(line for line in lines if line.rstrip() not in set(drawn))
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    operated = _OPERATED.sub(_operators, folded.translate(_LETTERS))
    said = _NEEDLESS_SPACE.sub("", " ".join(operated.split()))
    return "\n".join([said, *drawn]) if len(drawn) > 1 else said or text.strip()


def _operators(match: re.Match[str]) -> str:
    """What is left of punctuation and the spaces around it: a decimal point, operators of a formula, else a space."""
    text, start, end = match.string, match.start(), match.end()
    left, right = text[start - 1 : start] if start else "", text[end : end + 1]
    if match[0] == "." and left.isdigit() and right.isdigit():
        return "."
    operators = re.sub(r"[.\s]", "", match[0])
    # A letter on its own is the name of a variable.
    formula = (left and (not left.isalpha() or not text[max(start - 2, 0) : start - 1].isalpha())) or (
        right and (not right.isalpha() or not text[end + 1 : end + 2].isalpha())
    )
    return operators if operators and formula else " "


def near_key(prompt: Prompt) -> bytes:
    """A hash that near-equal prompts share; of messages it is that of their texts, whoever says them."""
    return hashlib.sha256(near_form(_text(prompt)).encode("utf-8", "surrogatepass")).digest()[:16]


def split_rows(rows: Sequence[dict[str, Any]], held_out: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Hold rows out by a hash of what their prompts say: as good as at random, whatever the order of the rows.

    Of near-equal prompts one is held out and the others are on neither side: a model is neither trained on what it is
    measured on, nor measured on one prompt many times.

    Args:
        rows (`Sequence[dict]`):
            Rows with a `prompt`.
        held_out (`int`):
            Rows wanted on the second side; there are fewer where there are fewer different prompts.

    Returns:
        `tuple[list[dict], list[dict]]`: the rows to train on and those held out, both in the order of `rows`.
    """
    keys = [near_key(row["prompt"]) for row in rows]
    chosen = set(sorted(set(keys))[:held_out])
    first: dict[bytes, tuple[str, int]] = {}
    for number, (row, key) in enumerate(zip(rows, keys, strict=True)):
        if key in chosen:
            place = _text(row["prompt"]), number
            first[key] = min(first.get(key, place), place)
    train = [row for row, key in zip(rows, keys, strict=True) if key not in first]
    return train, [rows[number] for number in sorted(number for _, number in first.values())]


@dataclass(frozen=True)
class Overlap:
    """How much of a set is in another one.

    Args:
        prompts (`int`):
            Prompts of the set.
        equal (`int`):
            Those that are in the other set as they are.
        near_equal (`int`):
            Those that are in it but for case, spaces, punctuation or the Unicode form; equal ones not included.
    """

    prompts: int
    equal: int
    near_equal: int

    @property
    def share(self) -> float:
        """Share of the set that is in the other one, near-equal prompts included; 0 of an empty set."""
        return (self.equal + self.near_equal) / self.prompts if self.prompts else 0.0

    def describe(self, what: str, where: str) -> str:
        """The counts in words, for example of `"held-out prompts"` in `"the training set"`."""
        return (
            f"{self.equal + self.near_equal} of {self.prompts} {what} are in {where} too, "
            f"{self.near_equal} of them but for case, spaces or punctuation."
        )

    def report(self, what: str, where: str) -> dict[str, Any]:
        """The counts as JSON values, with [`~Overlap.describe`] as `text`."""
        return {**asdict(self), "text": self.describe(what, where)}


def count_overlaps(prompts: Iterable[Prompt], others: Iterable[Prompt]) -> Overlap:
    """Count the prompts of a set that are in another one too.

    Args:
        prompts (`Iterable[Prompt]`):
            The set that is counted, for example what a model is evaluated on; kept in memory.
        others (`Iterable[Prompt]`):
            The other one, for example what it was trained on; read once, prompt by prompt.
    """
    keys = [(_text(prompt), near_key(prompt)) for prompt in prompts]
    exact, near = ({key[part] for key in keys} for part in (0, 1))
    met_exact, met_near = set(), set()
    for other in others:
        if (key := near_key(other)) in near:
            met_near.add(key)
            if (text := _text(other)) in exact:
                met_exact.add(text)
    equal = sum(text in met_exact for text, _ in keys)
    return Overlap(len(keys), equal, sum(key in met_near for _, key in keys) - equal)


def _text(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else "\n\n".join(message.get("content") or "" for message in prompt)
