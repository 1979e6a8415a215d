"""The distribution that tokens are sampled from, from logits in float64 by the formulas in vLLM's documentation."""

import numpy as np


def sampled_logprobs(logits, prompt, generated, sampling):
    """Log-probabilities of the next token, shape (V,); -inf for those that cannot be sampled.

    Args:
        logits: Of the model, shape (V,).
        prompt, generated: Tokens of the prompt, and those generated before.
        sampling: An `edco_rl.engine.Sampling`.
    """
    logits = np.array(logits, dtype=np.float64)
    for token in {*prompt, *generated}:
        penalty = sampling.repetition_penalty
        logits[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
    for token in generated:
        logits[token] -= sampling.frequency_penalty
    for token in set(generated):
        logits[token] -= sampling.presence_penalty
    if sampling.temperature > 0:
        logits = logits / sampling.temperature
        probabilities = _softmax(logits)
        logits[probabilities < sampling.min_p * probabilities.max()] = -np.inf
        descending = np.argsort(-logits)
        if sampling.top_k:
            logits[descending[sampling.top_k :]] = -np.inf
        mass_before = np.concatenate([[0.0], np.cumsum(_softmax(logits)[descending])[:-1]])
        logits[descending[mass_before >= sampling.top_p]] = -np.inf
    with np.errstate(divide="ignore"):
        return np.log(_softmax(logits))


def _softmax(logits):
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()
