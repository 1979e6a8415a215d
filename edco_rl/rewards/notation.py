"""Mathematics as people type it, rewritten in the LaTeX that math-verify reads."""

import re
import unicodedata
from collections.abc import Callable
from itertools import groupby

from .text import ascii_numbers

_SIGNS = str.maketrans(
    {
        "\N{INFINITY}": r"\infty ",
        "\N{DEGREE SIGN}": r"^\circ ",
        "\N{MASCULINE ORDINAL INDICATOR}": r"^\circ ",
        "\N{MULTIPLICATION SIGN}": r"\times ",
        "\N{MIDDLE DOT}": r"\cdot ",
        "\N{DOT OPERATOR}": r"\cdot ",
        "\N{DIVISION SIGN}": "/",
        "\N{PLUS-MINUS SIGN}": r"\pm ",
        "\N{LESS-THAN OR EQUAL TO}": r"\le ",
        "\N{GREATER-THAN OR EQUAL TO}": r"\ge ",
        "\N{UNION}": r"\cup ",
        "\N{INTERSECTION}": r"\cap ",
        "\N{ELEMENT OF}": r"\in ",
        "\N{EMPTY SET}": r"\emptyset ",
        "\N{DOUBLE-STRUCK CAPITAL R}": r"\mathbb{R}",
        "\N{SQUARE ROOT}": r"\sqrt ",
    }
)
_GREEK = "[\u0370-\u03ff\u1f00-\u1fff]"
_FUNCTIONS = "sqrt|pi|ln|log|exp|(?:arc)?(?:sin|cos|tan)h?|cot|sec|csc"
_SWAP_POINTS = str.maketrans({".": None, ",": "."})
_SPACE = r"(?:\\[,;:! ]|~|\{,\}|[' ])"


def _repeating(match: re.Match[str]) -> str:
    r"""0.1\overline{6} as a fraction: what repeats stands over as many nines."""
    sign, whole, fixed, repeats = match.groups()
    numerator = int(whole + fixed + repeats) - int(whole + fixed or "0")
    return rf"{sign}\frac{{{numerator}}}{{{'9' * len(repeats)}{'0' * len(fixed)}}}"


_REWRITES: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (rf"(?<!{_GREEK})\N{{GREEK SMALL LETTER PI}}(?!{_GREEK})", r"\\pi "),
        # Digits in groups of three, by any space: math-verify multiplies them.
        (rf"(?<![\d.,])(\d{{1,3}}(?:{_SPACE}\d{{3}})+)(?!\d)", lambda match: re.sub(_SPACE, "", match[1])),
        # 3{,}5 is a decimal comma; 1.234.567 and 1.234,5 have points between the groups.
        (r"(?<=\d)\{,\}(?=\d)", "."),
        (r"(?<![\d.,])\d{1,3}(?:\.\d{3})+,\d+(?!\d|[.,]\d)", lambda match: match[0].translate(_SWAP_POINTS)),
        (r"(?<![\d.,])\d{1,3}(?:\.\d{3}){2,}(?!\d|[.,]\d)", lambda match: match[0].replace(".", "")),
        # %50.
        (r"(?<![\d\\}])%\s*(\d+(?:[.,]\d+)?)", r"\1\%"),
        # 0.\overline{36}, 1.5e-3, 2 1/2 and 1.5 x 10^-3.
        (r"(-?)(\d*)\.(\d*)\\(?:overline|bar|dot)\s*\{?(\d+)\}?", _repeating),
        (r"(?<![\w.\\}])(\d+(?:\.\d+)?)[eE]([-+]?\d+)(?!\w)", r"\1\\cdot 10^{\2}"),
        (r"(?<![\d/.^])(\d+)\s+(\d+)\s*/\s*(\d+)(?!\d|/|\.\d)", r"\1\\frac{\2}{\3}"),
        (r"(?<=\d)\s*[xX]\s*(?=10\s*\^)", r"\\times "),
        # sqrt(5), ln(2), 2**10 and 2^10: LaTeX would raise to the first digit alone.
        (rf"(?<![\\A-Za-z])({_FUNCTIONS})(?![A-Za-z])", r"\\\1 "),
        (r"\*\*", "^"),
        (r"\*", r"\\cdot "),
        (r"\^\s*(-?\d+)", r"^{\1}"),
        (r"\\sqrt\s*(\d+|[A-Za-z])", r"\\sqrt{\1}"),
        (r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        # (-inf, 1) U (2, inf) and 1:2:3.
        (r"(?<![\\A-Za-z])inf(?:inity|ty)?(?![A-Za-z])", r"\\infty "),
        (r"(?<=[)\]])\s*U\s*(?=[(\[])", r"\\cup "),
        (r"(?<![\d:])\d+(?::\d+){2,}(?![\d:])", lambda match: f"({match[0].replace(':', ',')})"),
        (r"\\varnothing", r"\\emptyset"),
        (r"\\langle", "("),
        (r"\\rangle", ")"),
    )
]


def to_latex(text: str) -> str:
    """An expression in LaTeX, whatever digits, signs and words for functions it is typed in."""
    text = ascii_numbers(_spell_out(text).translate(_SIGNS))
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return text.strip()


def _spell_out(text: str) -> str:
    """Raised and lowered characters, and fractions of one character, in LaTeX."""
    parts = []
    for kind, run in groupby(text, lambda c: "" if c.isascii() else unicodedata.decomposition(c).partition(" ")[0]):
        characters = "".join(run)
        plain = unicodedata.normalize("NFKC", characters)
        if kind == "<super>" and characters != "\N{MASCULINE ORDINAL INDICATOR}":
            parts.append(f"^{{{plain}}}")
        elif kind == "<sub>":
            parts.append(f"_{{{plain}}}")
        elif kind == "<fraction>":
            parts.append(r" \frac{{{}}}{{{}}}".format(*plain.split("\N{FRACTION SLASH}")))
        else:
            parts.append(characters)
    return "".join(parts)
