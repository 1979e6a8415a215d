import time

import numpy as np
import pytest
from datasets import Dataset
from transformers import AutoTokenizer

from edco_rl.engine.protocol import Completion
from edco_rl.rewards import RewardError, math_reward
from edco_rl.runs.grading import grade


def answers(tokenizer, *texts):
    ids = [tokenizer(text).input_ids for text in texts]
    return [
        Completion(token_ids=one, logprobs=np.zeros(len(one)), top_logprobs=np.zeros((len(one), 0)), finished=True)
        for one in ids
    ]


def test_an_answer_nothing_is_known_of_is_neither_right_nor_wrong(tiny_model_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_path)
    rows = Dataset.from_dict({"prompt": ["1 + 1 =", "?"], "answer": ["2", None]})
    graded = grade([answers(tokenizer, "2", "3")] * 2, tokenizer, rows, math_reward)
    np.testing.assert_array_equal(graded.right, [[1.0, 0.0], [np.nan, np.nan]])
    np.testing.assert_array_equal(graded.rewards, graded.right)


@pytest.mark.parametrize("wrong", [float("inf"), float("nan")])
def test_a_reward_that_is_no_number_is_refused_with_its_prompt(tiny_model_path, wrong):
    def doubtful(completions, **kwargs):
        return [0.0, wrong]

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_path)
    rows = Dataset.from_dict({"prompt": ["1 + 1 =", "2 + 2 ="], "id": ["a", "b"]})
    with pytest.raises(RewardError, match=rf"'doubtful' gave {wrong} .*'b'.*'2 \+ 2 ='.*'4'"):
        grade([answers(tokenizer, "2"), answers(tokenizer, "4")], tokenizer, rows, doubtful)


def test_a_reward_that_takes_too_long_for_an_answer_is_refused_with_its_prompt(tiny_model_path):
    def slow(completions, **kwargs):
        time.sleep(60 if "4" in completions else 0)
        return [1.0] * len(completions)

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_path)
    rows = Dataset.from_dict({"prompt": ["1 + 1 =", "2 + 2 ="], "id": ["a", "b"]})
    with pytest.raises(RewardError, match=r"'slow' took longer than 0.2 s for .*'b'.*'4'. That is the reward_timeout"):
        grade([answers(tokenizer, "2"), answers(tokenizer, "4")], tokenizer, rows, slow, timeout=0.2)
