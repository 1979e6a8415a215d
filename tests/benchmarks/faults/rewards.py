"""Reward functions that fail, leave, answer wrongly or hang; without an engine."""

from collections.abc import Iterator, Sequence
from functools import partial

from .fault import Fault, expect
from .numbers import fails, quarantine
from .place import Place, given


def _author(reward: str, words: Sequence[str], place: Place) -> str:
    run = place.train("grpo", reward_funcs=[given(reward)])
    seen, said = run.expect(1, f"Reward '{reward}' ", tracebacks=True), run.errors()
    for word in words:
        expect(word in said, f"{seen}; {word!r} is not in {said[-2000:]}")
    frames = [line for line in said.splitlines() if line.strip().startswith('File "')]
    expect(all("faults/given.py" in frame for frame in frames), f"{seen}; frames that are not the author's: {frames}")
    return f"{seen}, {len(frames)} frames, all of them the author's"


def faults() -> Iterator[Fault]:
    """Those of this room."""
    told = "exit 1, the reward is named, nothing is saved"
    for reward, words in (
        ("raises", ("raised LookupError", "the grader's own mistake", "and the completion")),
        ("raises_later", ("raised LookupError", "the grader's own mistake")),
        ("leaves", ("called sys.exit",)),
        ("too_few", ("gave 1 rewards for 4 completions",)),
        ("texts", ("gave '1.0' (str)",)),
    ):
        yield Fault(
            f"rewards.{reward}",
            f"a reward that {words[0]}",
            "exit 1, named with the completion; of a traceback the author's part alone",
            partial(_author, reward, words),
        )
    yield Fault(
        "rewards.hangs_for_some",
        "a reward hangs for a few prompts, reward_timeout 0.5",
        "exit 0, these in quarantine",
        partial(quarantine, "hangs_for_some", reward_timeout=0.5),
    )
    yield Fault(
        "rewards.hangs",
        "a reward always hangs, reward_timeout 0.2",
        told,
        partial(
            fails,
            "grpo",
            "took longer than 0.2 s",
            reward_funcs=[given("hangs")],
            reward_timeout=0.2,
            max_quarantined_prompts=3,
        ),
    )
    yield Fault(
        "rewards.hangs_held_out",
        "a reward hangs on held-out answers, reward_timeout 0.5",
        told,
        partial(
            fails,
            "grpo",
            "Reward 'hangs' took longer than 0.5 s .* That is the reward_timeout",
            reward_funcs=[given("hangs")],
            reward_timeout=0.5,
            held_out_prompts=2,
        ),
    )
