"""Rewards for free text: overlap with a reference."""

import functools
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from .text import ascii_numbers, completion_text, reference_text

# Scripts that put no space between words: Thai to Tibetan, Burmese, Khmer, kana and Han.
_NO_SPACES = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)


class Words:
    """A tokenizer for rouge-score and any script; of a text in ASCII it makes what the default one does.

    That one keeps a to z and digits, so that texts in other scripts have no words, and score 0. Letters and digits
    with their marks are words here; where a script has no spaces, each character is one. Words in ASCII are stemmed.
    """

    def __init__(self) -> None:
        from rouge_score.tokenizers import DefaultTokenizer  # with its stemmer it takes seconds to import

        self._in_ascii = functools.lru_cache(maxsize=1 << 16)(DefaultTokenizer(use_stemmer=True).tokenize)

    def tokenize(self, text: str) -> list[str]:
        """Words of a text, in order."""
        words: list[str] = []
        within = False  # a word that goes on
        for character in ascii_numbers(unicodedata.normalize("NFKC", text).lower()):
            kind = unicodedata.category(character)
            if kind[0] == "M":
                if words:
                    words[-1] += character
            elif kind[0] not in "LN":
                within = within and kind == "Cf"  # joiners have no width and stand within words
            elif _NO_SPACES.match(character):
                words.append(character)
                within = False
            elif within:
                words[-1] += character
            else:
                words.append(character)
                within = True
        return [token for word in words for token in (self._in_ascii(word) if word.isascii() else [word])]


@functools.cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], tokenizer=Words())


def rouge_l(reference: str, text: str) -> float:
    """ROUGE-L of a text: F1 of the longest common subsequence of words, 0 to 1; see [`Words`]."""
    return _scorer().score(reference, text)["rougeL"].fmeasure


def rouge_l_reward(completions: Sequence[Any], answer: Sequence[Any], **kwargs: Any) -> list[float | None]:
    """ROUGE-L of completions against the column `answer`; `None` for a row without one."""
    return [
        None if reference is None else rouge_l(reference, completion_text(completion))
        for completion, reference in zip(completions, map(reference_text, answer), strict=True)
    ]
