"""The text of a completion, and the part of it that is the answer."""

import re
import unicodedata
from typing import Any

_ANSWER_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_END_OF_THOUGHT = "</think>"
# Chinese and Japanese put no space beside a number, and math-verify wants one.
_BESIDE_OTHER_SCRIPT = re.compile(r"(?<=[^\x00-\x7F])(?=[-+]?\d)|(?<=\d)(?=[^\x00-\x7F])")
# Signs and separators of numbers in other scripts. Commas and dots between digits are left to math-verify.
_NUMBER_SIGNS = str.maketrans(
    {
        "\N{MINUS SIGN}": "-",
        "\N{FULLWIDTH HYPHEN-MINUS}": "-",
        "\N{FULLWIDTH PLUS SIGN}": "+",
        "\N{FULLWIDTH FULL STOP}": ".",
        "\N{FULLWIDTH COMMA}": ",",
        "\N{FULLWIDTH SOLIDUS}": "/",
        "\N{ARABIC DECIMAL SEPARATOR}": ".",
        "\N{ARABIC THOUSANDS SEPARATOR}": "",
        "\N{NO-BREAK SPACE}": " ",
        "\N{NARROW NO-BREAK SPACE}": " ",
    }
)


def completion_text(completion: Any) -> str:
    """The text of a completion, plain or as messages."""
    return completion if isinstance(completion, str) else completion[-1]["content"]


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
