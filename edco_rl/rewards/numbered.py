"""Which option a text decides for, where options are numbered."""

import re
import unicodedata

from .text import ANSWER_IS, NOT_DENIED

# Written as the answer, in so many words, or alone: other numbers in a text may be anything.
_MARKED = re.compile(r"\[\[\s*(\d+)\s*\]\]|\\boxed\s*\{\s*(\d+)\s*\}")
_DECORATION = r"[\s*_(\[\"'`#]*"
_STATED = re.compile(
    rf"{ANSWER_IS}(?:\s+(?:option|choice|number))?\s*[:=]?{_DECORATION}(\d+)(?![\d%]|[.,:/]\d){NOT_DENIED}",
    re.IGNORECASE,
)
_OTHER = re.compile(rf"[\s*_)\]\"'`]*(?:,|/|&|\bor\b|\band\b){_DECORATION}(?:option\s+)?(\d+)", re.IGNORECASE)
_ALONE = re.compile(rf"{_DECORATION}(\d+)[\s*_)\]\"'`.。।]*")


def find_numbered_option(text: str, options: list[str]) -> str | None:
    """The number of the option a text decides for, from 1; `None` where it decides for none, or for two.

    In this order: what stands in double square brackets or is boxed, the last of these; a text of nothing but a
    number, an option, or both; the last statement such as "the answer is 2".

    Args:
        text (`str`):
            The answer.
        options (`list[str]`):
            Texts of the options.
    """
    text = unicodedata.normalize("NFKC", text).strip()
    marked = _MARKED.findall(text)
    if marked:
        return _known(max(marked[-1]), options)
    alone = _ALONE.fullmatch(text)
    if alone and (number := _known(alone[1], options)):
        return number
    written = {str(number): (option, f"{number}. {option}") for number, option in enumerate(options, 1)}
    same = [number for number, forms in written.items() if _plain(text) in map(_plain, forms)]
    if same:
        return same[0] if len(same) == 1 else None
    stated = list(_STATED.finditer(text))
    if not stated or _OTHER.match(text, stated[-1].end()):
        return None
    return _known(stated[-1][1], options)


def _known(number: str, options: list[str]) -> str | None:
    return str(int(number)) if 1 <= int(number) <= len(options) else None


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(" .。।")
