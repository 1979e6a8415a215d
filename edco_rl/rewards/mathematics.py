"""Whether an answer is right, as mathematics: math-verify, and the reading around it that it leaves to others."""

import logging
import re
import threading
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from .notation import to_latex
from .text import ascii_numbers

_BOX = re.compile(r"\\(?:boxed|fbox)\b")
_MARKED = re.compile(r".*####(.+)", re.DOTALL)  # GSM8K
_WRAPPED = re.compile(r"\$\$?([^$]+)\$\$?|\\\((.+)\\\)|\\\[(.+)\\\]", re.DOTALL)
_ENVIRONMENT = re.compile(r"\$[^$]+\$|\\\(.+?\\\)|\\\[.+?\\\]", re.DOTALL)
_LAST_STOP = re.compile(r"[.,;]\s*(\$\$?|\\\)|\\\])$")
_BOLD = re.compile(r"(?<!\w)\*\*|\*\*(?!\w)|`")
# What is no prose though there are letters in it.
_LATEX = re.compile(
    r"\\begin\s*\{(\w+\*?)\}.*?\\end\s*\{\1\}|\\(?:text\w*|math\w+|mbox|operatorname)\s*\{[^{}]*\}|\\[A-Za-z]+",
    re.DOTALL,
)
# Words, with the power of a unit. Latin and Greek letters that stand alone are variables.
_LETTER = r"[A-Za-z\u0080-\U0010FFFF]"
_POWER = r"(?:\^\{?-?\d\}?)"
_WORD = re.compile(
    rf"(?<!{_LETTER})(?!(?:and|or)\b){_LETTER}{{2,}}['\w]*{_POWER}?(?:/{_LETTER}+{_POWER}?)*|[\u0080-\u036F\u0400-\U0010FFFF]"
)
_UNIT = re.compile(rf"(?<=\d)\s+(?:[A-Za-z]{{1,2}}/[A-Za-z]{{1,3}}{_POWER}?|[kcdm]?m{_POWER})$")
_SENTENCE_END = re.compile(r"[.?]\s+(?=\S)|\n")
_STATED = re.compile(r"\b(?i:answer|result)\b(?i:\s+is)?\s*[:=]?\s*")
_SAID = re.compile(r"(?:\b(?:is|are|be|on|ist|est|es)\s|'s\s|[:=]|(?<!不)是|为)\s*(?:an?\s|the\s)?\s*$", re.IGNORECASE)
_MARKUP = re.compile(r"\\(?:text\w*|math(?:rm|bf|it|sf)|mbox|operatorname|left|right)\b|\\[,;:! ]|[{}$\s]|\\(?=[%$])")
_ARTICLE = re.compile(r"^(?:an?|the)\s+(?=[a-z]{3})")
_BASE = re.compile(r"\d_\{?(\d+)\}?$")
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?!\d)(?:([ap])\.?m)?")
# Neither a list nor thousands, or those as well.
_DECIMAL_COMMA = re.compile(r"[^,()\[\]]*(?:\b0,\d+|\d,(?!\d{3}(?!\d))\d+)[^,()\[\]]*")
_INDIAN_THOUSANDS = re.compile(r"-?\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?")
_OR = re.compile(r"\bor\b")
_LONGEST_TEXT, _LONGEST_EXPRESSION = 60, 1000


class Answer(NamedTuple):
    """What a text gives as its answer.

    Args:
        written (`str`):
            The part of the text that is the answer, in LaTeX; empty where math-verify alone found it.
        values (`list`):
            What it can mean, as SymPy objects; none where it is no mathematics.
        units (`bool`):
            Whether a letter at its end is a unit, rather than a variable.
    """

    written: str
    values: list[Any]
    units: bool


@lru_cache(maxsize=4096)
def read_reference(text: str) -> Answer | None:
    """A right answer, in LaTeX or plain, with or without delimiters; `None` where there is nothing to compare to."""
    answer = _read(text, whole=True, units=True)
    if all(getattr(value, "free_symbols", ()) for value in answer.values) and r"\text" not in text:
        answer = _read(text, whole=True, units=False)
    return answer if answer.values or 0 < len(_plain(answer.written)) <= _LONGEST_TEXT else None


def is_right(reference: Answer, text: str) -> bool:
    """Whether the answer of a text is the reference."""
    answer = _read(text, whole=False, units=reference.units)
    given, right = _plain(answer.written), _plain(reference.written)
    if given == right != "":
        return True
    if (one := _CLOCK.search(given)) and (other := _CLOCK.search(right)):
        return one.group(1, 2) == other.group(1, 2) and (not one[3] or not other[3] or one[3] == other[3])
    bases = {base[1] for base in map(_BASE.search, (given, right)) if base}
    return len(bases) < 2 and (_equal(reference.values, answer.values) or _says(text, reference.written))


def _read(text: str, *, whole: bool, units: bool) -> Answer:
    """The answer of a text; `whole` where nothing but an answer can stand in it."""
    from latex2sympy2_extended.math_normalization import extract_boxed_content

    text = text.strip()
    environments = [match for match in _ENVIRONMENT.finditer(text) if not _words(match[0])]
    if _BOX.search(text):
        written = to_latex(extract_boxed_content(text, mode="last"))
    elif marked := _MARKED.fullmatch(text):
        return _read(marked[1], whole=whole, units=units)
    elif wrapped := _WRAPPED.fullmatch(text.rstrip(". ")):
        written = to_latex(wrapped[1] or wrapped[2] or wrapped[3])
    elif environments:
        rewritten = _ENVIRONMENT.sub(lambda match: _LAST_STOP.sub(r"\1", to_latex(match[0])), text)
        return Answer("", _parse(rewritten, units), units)
    elif whole:
        written = to_latex(text)
    else:
        written = _last_expression(to_latex(_BOLD.sub("", text)))
        return Answer(written, _values(written, units) or _parse(ascii_numbers(text), units), units)
    return Answer(written, _values(written, units), units)


def _last_expression(text: str) -> str:
    """The expression after "the answer is", else the last one with a digit or a command in it."""
    for stated in list(_STATED.finditer(text))[-1:]:
        after = text[stated.end() :]
        if (found := _expressions(after)) and after.startswith(found[0]):
            return found[0]
    found = _expressions(text)
    return next((one for one in reversed(found) if re.search(r"[\d\\]", one)), found[-1] if found else "")


def _expressions(text: str) -> list[str]:
    """What stands between the words and sentences of a text."""
    words = _words(text)
    breaks = sorted(match.span() for match in (*words, *_SENTENCE_END.finditer(text)))
    found, start = [], 0
    for begin, end in [*breaks, (len(text), len(text))]:
        part = text[start:begin].strip(" \t\r,;:?_~'\"#").rstrip(".")
        part = re.sub(r"^(?:and|or)\b|\b(?:and|or)$|^[aAI]\s+(?=\d)|(?<=\d)\s+[aAI]$", "", part).strip(" ,;:")
        part = part.rstrip("!") if words else part  # in prose it exclaims
        if re.search(r"\w", part):
            found.append(part)
        start = end
    return found


def _words(text: str) -> list[re.Match[str]]:
    return list(_WORD.finditer(_LATEX.sub(lambda match: "#" * len(match[0]), text)))


def _values(written: str, units: bool) -> list[Any]:
    """What LaTeX without delimiters can mean; what is too long to be an answer, nothing."""
    if len(written) > _LONGEST_EXPRESSION:
        return []
    written = _UNIT.sub("", written.rstrip(". "))
    words = _words(written)
    if words and words[0].start() and not re.search(r"[\d\\]", written[words[0].start() :]):  # units after a number
        written = written[: words[0].start()]
    readings = [written]
    if _DECIMAL_COMMA.fullmatch(written):
        readings.append(written.replace(",", "."))
    elif _INDIAN_THOUSANDS.fullmatch(written):
        readings.append(written.replace(",", ""))
    return [value for reading in readings for value in _parse(rf"\boxed{{{reading}}}", units)]


def _parse(text: str, units: bool) -> list[Any]:
    """What math-verify finds in a text."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    latex = LatexExtractionConfig(boxed_match_priority=0)
    latex = replace(latex, normalization_config=replace(latex.normalization_config, units=units))
    found = parse(text, extraction_config=[latex, ExprExtractionConfig()], parsing_timeout=_seconds())
    values = [value for value in found if not isinstance(value, str)]
    return values + [union for union in map(_union, values) if union is not None] if _OR.search(text) else values


def _union(value: Any) -> Any:
    """The set that inequalities of one variable describe, of which one holds; `None` for anything else."""
    from sympy import FiniteSet, Union
    from sympy.core.relational import Relational

    inequalities = isinstance(value, FiniteSet) and all(isinstance(one, Relational) for one in value)
    return Union(*(one.as_set() for one in value)) if inequalities and len(value.free_symbols) == 1 else None


def _equal(right: list[Any], given: list[Any]) -> bool:
    """Whether any meaning of one is any of the other. A percentage is its share too, where only one of them is."""
    from math_verify import verify

    bare_right, bare_given = list(map(_without_percent, right)), list(map(_without_percent, given))
    if (bare_right == right) != (bare_given == given):
        right, given = [*right, *bare_right], [*given, *bare_given]
    else:
        right, given = bare_right, bare_given
    return verify(right, given, allow_set_relation_comp=True, timeout_seconds=_seconds())


def _without_percent(value: Any) -> Any:
    from sympy import Rational, UnevaluatedExpr

    return value.xreplace({UnevaluatedExpr(Rational(1, 100)): 1}) if hasattr(value, "xreplace") else value


def _seconds() -> int | None:
    """The time limit of math-verify, which is a signal: there is none outside the main thread, as in TRL's rewards."""
    if threading.current_thread() is threading.main_thread():
        return 5
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it would warn of that
    return None


def _plain(text: str) -> str:
    """A text without markup, case, article and spaces."""
    return "".join(_ARTICLE.sub("", _unmarked(text).casefold()).split())


def _unmarked(text: str) -> str:
    words = _MARKUP.sub(lambda match: " " if match[0].isspace() else "", ascii_numbers(text))
    return " ".join(words.split()).rstrip(" .")


def _says(text: str, right: str) -> bool:
    """Whether a text ends by saying that something is the right words."""
    said, wanted = _unmarked(text).casefold().rstrip("!"), _unmarked(right).casefold()
    if not re.search(r"[^\W\d_]", wanted) or not said.endswith(wanted):
        return False
    before = said.removesuffix(wanted)
    return not before.strip() or _SAID.search(before) is not None
