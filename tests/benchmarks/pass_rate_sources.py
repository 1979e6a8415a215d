"""What each source of learning_edge's pass rates is worth, on prompts whose pass rates are known, before training.

    python -m tests.benchmarks.pass_rate_sources MODEL PROMPTS.jsonl [--seen 64 128 256] [--estimator surprisal]

The prompts come with a `pass_rate`, as those of tests.benchmarks.map_pools. Some, drawn at random, get a group of
rewards by their pass rate. Of all others the quarter of highest value is what would be drawn next; printed is the
share of groups of these whose rewards differ (mean over seeds, its standard error): by score, by hidden state, by
both; by a group of rewards of each of them (own); and in random order.
"""

import argparse

import numpy as np
from transformers import AutoModelForCausalLM, AutoTokenizer

from edco_rl.audit.groups import mean_of_highest, signal_chance
from edco_rl.config import EstimatorConfig
from edco_rl.curriculum import Curriculum, Outcome, Outcomes, Pool
from edco_rl.data.load import load_prompts
from edco_rl.data.tokens import RowTokenizer
from edco_rl.engine.transformers_backend import TransformersBackend
from edco_rl.scoring import RowScorer

SOURCES = {"score": (True, False), "hidden state": (False, True), "both": (True, True), "own": (False, False)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("prompts")
    parser.add_argument("--seen", type=int, nargs="+", default=[64, 128, 256], help="Prompts with a group of rewards.")
    parser.add_argument("--estimator", default="prefix_entropy")
    parser.add_argument("--group_size", type=int, default=8)
    parser.add_argument("--answers", type=int, default=16, help="Answers that pass rates were measured with.")
    parser.add_argument("--share", type=float, default=0.25, help="Share of the other prompts that is drawn.")
    parser.add_argument("--seeds", type=int, default=20)
    args = parser.parse_args()
    rows, _ = load_prompts(args.prompts)
    rates = np.array(rows["pass_rate"])
    answers = np.arange(args.answers) < np.rint(rates * args.answers)[:, None]
    chances = signal_chance(answers.astype(np.float64), args.group_size)
    known = look(args, rows.to_list())
    print("seen", *SOURCES, "random", sep="\t")
    for seen in args.seen:
        given = (seen, rates, chances, known, args)
        found = np.array([[share(source, seed, *given) for seed in range(args.seeds)] for source in SOURCES])
        shown = [f"{one.mean():.3f} ({one.std() / args.seeds**0.5:.3f})" for one in found]
        print(seen, *shown, f"{chances.mean():.3f}", sep="\t", flush=True)


def look(args, rows):
    """Score and hidden state of each prompt."""
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype="float32")
    backend = TransformersBackend.of(model, tokenizer)
    config = EstimatorConfig(scoring_prefix_tokens=4, scoring_quick_answer=False)
    scorer = RowScorer(RowTokenizer(tokenizer), config, estimator=args.estimator)
    scores = [score.value for score in scorer.score(scorer.encode(rows), backend)]
    return np.array(scores), backend.hidden_states(scorer.tokenizer.prompts(rows))


def share(source, seed, seen, rates, chances, known, args):
    """Share of the groups drawn next that have a signal."""
    rng, everyone = np.random.default_rng(seed), np.arange(len(rates))
    first, others = np.split(rng.permutation(len(rates)), [seen])
    with_score, with_head = SOURCES[source]
    pool, kwargs = Pool(list(map(str, everyone))), {"hidden_state": with_head}
    curriculum = Curriculum(pool, "learning_edge", batch_size=1, size=1, seed=seed, strategy_kwargs=kwargs)
    if with_score:
        curriculum.observe(Outcomes.scores(everyone, 0, known[0]))
    told = others if source == "own" else first
    groups = (rng.random((len(told), args.group_size)) < rates[told, None]).astype(float).tolist()
    curriculum.observe([Outcome(int(i), 0, rewards=tuple(group)) for i, group in zip(told, groups, strict=True)])
    if with_head:
        curriculum.observe_hidden_states(everyone, known[1])
    return float(mean_of_highest(curriculum.strategy.value()[others], chances[others], args.share))


if __name__ == "__main__":
    main()
