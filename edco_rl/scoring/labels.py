"""The tokens an option label can be: `A` and ` A` are two in most vocabularies, and both mean the same option."""

from typing import Any

from ..errors import ConfigurationError

# vLLM returns the log-probabilities of at most 128 tokens of one's choice.
MOST_TOKENS = 128


class LabelTokens:
    """Looks up the single tokens that mean an option label.

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            The policy's tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}

    def __call__(self, label: str) -> list[int]:
        """Ids of the single tokens that decode to the label, with and without a space before it.

        Raises:
            ConfigurationError: There is none: the tokenizer splits the label, or does not know it.
        """
        if label not in self._known:
            encoded = self.tokenizer([label, f" {label}"], add_special_tokens=False)["input_ids"]
            single = {ids[0] for ids in encoded if len(ids) == 1}
            # Some tokenizers give another word's token, or the unknown one, for what they do not hold.
            single = {token for token in single if self.tokenizer.decode([token]).strip() == label}
            if not single:
                raise ConfigurationError(
                    f"estimator option_entropy: no single token of the tokenizer is the option label {label!r}. Use "
                    "answer_entropy or prefix_entropy."
                )
            self._known[label] = sorted(single)
        return self._known[label]
