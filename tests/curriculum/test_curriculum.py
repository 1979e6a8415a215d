"""What the curriculum adds to a strategy: checks, exploration, visits, and the strategies users write."""

import traceback

import numpy as np
import pytest

from edco_rl.curriculum import Outcome, Pool, Strategy
from edco_rl.errors import ConfigurationError

from .drawing import draw, flat, make, score


class Shortest(Strategy):
    def select(self, n):
        return np.argsort([len(prompt_id) for prompt_id in self.pool.ids], kind="stable")[:n]


class Broken(Strategy):
    def __init__(self, context, *, answer):
        super().__init__(context)
        self.answer = answer

    def select(self, n):
        return self.answer


@pytest.mark.parametrize("path", [f"{__name__}:Shortest", f"{__name__}.Shortest"])
def test_a_users_own_strategy_is_found_by_its_import_path(path):
    assert make(path).next_batch().tolist() == [0, 1, 2]


class Buggy(Strategy):
    def __init__(self, context, *, fails_at):
        super().__init__(context)
        self.fails_at = fails_at
        if fails_at == "__init__":
            self.weight = 1.0 + fails_at

    def observe(self, outcomes):
        self.weight = len(self.fails_at, outcomes)

    def select(self, n):
        return np.arange(n)


@pytest.mark.parametrize("method", ["__init__", "observe"])
def test_an_authors_own_type_error_keeps_its_traceback(method):
    with pytest.raises(TypeError) as error:
        score(make(f"{__name__}:Buggy", strategy_kwargs={"fails_at": method}), [1.0])
    where = traceback.extract_tb(error.value.__traceback__)[-1]
    assert (where.filename, where.name) == (__file__, method)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([0, 1], "must select 3 indices"),
        ([0.0, 1.0, 2.0], "must select 3 indices"),
        ([0, 1, 1], "must select different prompts"),
        ([0, 1, 12], "between 0 and 11"),
    ],
)
def test_a_strategy_that_selects_nonsense_is_told_so(answer, message):
    with pytest.raises(ValueError, match=message):
        make(f"{__name__}:Broken", strategy_kwargs={"answer": answer}).next_batch()


@pytest.mark.parametrize(
    ("strategy", "kwargs", "message"),
    [
        ("edko", {}, "Unknown strategy 'edko'. Available: adarft, baby_step"),
        ("nowhere:Class", {}, "Cannot import strategy"),
        ("json:dumps", {}, "not a subclass"),
        ("edco", {"strategy_kwargs": {"speed": 1}}, r"strategy 'edco' with strategy_kwargs .* argument 'speed'"),
        ("baby_step", {"strategy_kwargs": {"stage": 1}}, "strategy 'baby_step' with .* argument 'stage'"),
        (f"{__name__}:Broken", {}, f"strategy '{__name__}:Broken' with strategy_kwargs {{}}: missing .* 'answer'"),
        ("edco", {"pool_size": 2}, "has 2 prompts, but a generation batch takes 3"),
        ("edco", {"size": 2}, "it must be at least"),
    ],
)
def test_wrong_settings_are_refused(strategy, kwargs, message):
    with pytest.raises(ConfigurationError, match=message):
        make(strategy, **kwargs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategy": "random"}, "strategy 'random', this run has 'edco'"),
        ({"curriculum_exploration": 0.5}, "curriculum_exploration 0.5, this run has 0.0"),
        ({"seed": 1}, "seed 1, this run has 0"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_the_difference(change, message):
    curriculum = make("edco")
    state = curriculum.state_dict()
    with pytest.raises(ConfigurationError, match=message):
        curriculum.load_state_dict(state | {"settings": state["settings"] | change})


def test_a_checkpoint_of_another_version_or_data_set_is_refused():
    curriculum = make("edco")
    with pytest.raises(ConfigurationError, match="format 0, this version reads 8"):
        curriculum.load_state_dict(curriculum.state_dict() | {"format": 0})
    with pytest.raises(
        ConfigurationError, match=r"Of the 13 prompts .* 1 are not in this data set, the first of them from row 12"
    ):
        curriculum.load_state_dict(make("edco", pool_size=13).state_dict())


def test_two_prompts_with_one_id_are_refused():
    with pytest.raises(ValueError, match="Two prompts of the pool have the id 'a'"):
        Pool(["a", "b", "a"])


def test_exploration_takes_its_share_of_prompts_from_the_whole_pool():
    curriculum = make("edco", pool_size=100, batch_size=4, size=4, exploration=0.3)
    score(curriculum, np.linspace(1, 0, 100))
    drawn = flat(draw(curriculum, 50))
    assert sum(i not in (0, 1, 2, 3) for i in drawn) == pytest.approx(0.3 * 200, abs=4)
    assert len({i for i in drawn if i > 3}) > 30


def test_a_cap_on_visits_replaces_prompts_and_ends_with_an_error_that_says_so():
    curriculum = make("edco", pool_size=6, batch_size=2, size=2, max_visits=2)
    score(curriculum, [9.0, 8.0, 1.0, 1.0, 1.0, 1.0])
    assert [sorted(batch) for batch in draw(curriculum, 2)] == [[0, 1], [0, 1]]
    draw(curriculum, 4)
    assert curriculum.pool.visits.tolist() == [2] * 6
    with pytest.raises(ConfigurationError, match="max_visits = 2 times, and of the 6 only 0 are left for 2 places"):
        curriculum.next_batch()


def test_metrics_say_what_the_curriculum_did():
    curriculum = make("edco", pool_size=4, batch_size=2, size=2)
    score(curriculum, [1.0, 2.0, 3.0, 6.0])
    curriculum.next_batch()
    metrics = curriculum.metrics()
    assert metrics["entropy"] == 4.5 and metrics["entropy_pool"] == 3.0 and metrics["visited"] == 0.5
    assert metrics["entropy_p50"] == 2.5 and metrics["entropy_known"] == 1.0 and metrics["entropy_age"] == 0.0
    assert "overlap" not in metrics and curriculum.visits.prompts == 2
    curriculum.observe([Outcome(index=2, version=4, score=9.0)])
    curriculum.renew(4)
    curriculum.next_batch()
    metrics = curriculum.metrics()
    assert metrics["overlap"] == 1.0 and metrics["entropy_age"] == 2.0  # the other score is four steps old
