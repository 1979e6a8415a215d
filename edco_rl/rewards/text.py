"""The text of a completion, and the part of it that is the answer."""

import re
import unicodedata
from typing import Any

_ANSWER_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
# Written as texts are once they are normalized.
_ANSWER = (
    r"(?:\b(?i:answer|option|choice|respuesta|réponse|resposta|antwort|ответ|απάντηση|उत्तर|উত্তর)\b"
    r"|答案|选项|選項|答え|正解|정답|답|الجواب|الإجابة|התשובה|คำตอบ)"
)
_IS = r"(?:\s*(?:\b(?i:is|would\s+be|should\s+be|es|est|é|ist|είναι)\b|هو|هي|היא|הוא|คือ|是|为|為|は|은|는))?"
ANSWER_IS = unicodedata.normalize("NFKC", f"{_ANSWER}{_IS}")
"""Pattern of "the answer is" in several languages."""
NOT_DENIED = unicodedata.normalize("NFKC", r"(?!\s*(?:では(?:ない|ありません)|じゃない|[가이]\s*아[니닙]|नहीं|নয়))")
"""Pattern of what does not go on with a "not", as it does in languages that put it last."""
_END_OF_THOUGHT = "</think>"
# Chinese and Japanese put no space beside a number, and math-verify wants one.
_BESIDE_OTHER_SCRIPT = re.compile(r"(?<=[^\x00-\x7F])(?=[-+]?\d)|(?<=\d)(?=[^\x00-\x7F])")
# Signs and separators of numbers in other scripts. Commas and dots between digits are left to math-verify.
_NUMBER_SIGNS = str.maketrans(
    {
        **{chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},  # full-width forms of ASCII
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{MINUS SIGN}": "-",
        "\N{EN DASH}": "-",
        "\N{HYPHEN}": "-",
        "\N{NON-BREAKING HYPHEN}": "-",
        "\N{IDEOGRAPHIC COMMA}": ",",
        "\N{IDEOGRAPHIC FULL STOP}": ".",
        "\N{ARABIC COMMA}": ",",
        "\N{ARABIC PERCENT SIGN}": "%",
        "\N{ARABIC DECIMAL SEPARATOR}": ".",
        "\N{ARABIC THOUSANDS SEPARATOR}": "",
        "\N{NO-BREAK SPACE}": " ",
        "\N{NARROW NO-BREAK SPACE}": " ",
        "\N{THIN SPACE}": " ",
        "\N{FIGURE SPACE}": " ",
        "\N{IDEOGRAPHIC SPACE}": " ",
        **dict.fromkeys("\u200b\u200e\u200f\u2066\u2067\u2068\u2069\ufeff", ""),  # of no width, as of directions
    }
)


def completion_text(completion: Any) -> str:
    """The text of a completion, plain or as messages; of content in parts that of its parts."""
    content = completion if isinstance(completion, str) else completion[-1].get("content")
    return "".join(part.get("text") or "" for part in content) if isinstance(content, list) else content or ""


def reference_text(reference: Any) -> str | None:
    """A right answer from a column of text or numbers; `None` for one that is missing (`None` or NaN)."""
    return None if reference is None or reference != reference else str(reference)  # noqa: PLR0124


def answer_text(completion: Any) -> str:
    """What a completion gives as its answer: the last `<answer>` tag, else all that follows the reasoning."""
    text = completion_text(completion).rpartition(_END_OF_THOUGHT)[2]
    tagged = _ANSWER_TAG.findall(text)
    return tagged[-1] if tagged else text


def ascii_numbers(text: str) -> str:
    """Numbers in the digits and signs of any script in those of ASCII, with space between them and other scripts."""
    if text.isascii():
        return text
    digits = (str(unicodedata.decimal(c)) if not c.isascii() and c.isdecimal() else c for c in text)
    return _BESIDE_OTHER_SCRIPT.sub(" ", "".join(digits).translate(_NUMBER_SIGNS))
