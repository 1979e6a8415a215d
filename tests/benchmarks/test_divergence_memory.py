"""The two ways the memory of a divergence is measured for compute the same."""

import numpy as np
import pytest

from .divergence_memory import MemoryConfig, measure


def test_chunks_and_full_logits_give_one_loss_and_one_gradient():
    config = MemoryConfig(vocabulary=500, tokens=40, hidden_size=16)
    chunks, plain = (measure(config, "skewed_reverse_kl", way) for way in ("chunks", "plain"))
    assert chunks["loss"] == pytest.approx(plain["loss"], rel=1e-5)
    assert chunks["gradient"] == pytest.approx(plain["gradient"], rel=1e-5)
    assert np.isfinite(chunks["mib"])
