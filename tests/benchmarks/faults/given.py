"""Rewards with faults, named by their import path in the settings of runs."""

import math
import sys
import time


def fair(completions, **kwargs):
    """Differs within groups, and needs no right answer."""
    return [float(sum(map(ord, completion)) % 7) for completion in completions]


def slow(completions, **kwargs):
    """Leaves time for a fault."""
    time.sleep(0.3)
    return fair(completions)


def _unlucky(prompts):
    """Whether a prompt is one of a few of the pool."""
    return [sum(map(ord, prompt)) % 4 == 0 for prompt in prompts]


def nan_for_some(completions, prompts, **kwargs):
    pairs = zip(fair(completions), _unlucky(prompts), strict=True)
    return [math.nan if unlucky else reward for reward, unlucky in pairs]


def nan(completions, **kwargs):
    return [math.nan] * len(completions)


def infinite(completions, **kwargs):
    return [-math.inf] * len(completions)


def nothing(completions, **kwargs):
    return [None] * len(completions)


def raises(completions, **kwargs):
    raise LookupError("the grader's own mistake")


async def raises_later(completions, **kwargs):
    raises(completions)


def too_few(completions, **kwargs):
    return [1.0]


def texts(completions, **kwargs):
    return ["1.0"] * len(completions)


def leaves(completions, **kwargs):
    sys.exit(0)


def hangs(completions, **kwargs):
    time.sleep(600)


def hangs_for_some(completions, prompts, **kwargs):
    if any(_unlucky(prompts)):
        time.sleep(600)
    return fair(completions)


hangs.is_accuracy = True
