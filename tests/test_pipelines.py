"""Prompts in a pipeline: the closed form against the pipeline itself, pass by pass."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest

from flashstill.cost import Load
from flashstill.cost.closed_form import Paces, closed_form
from flashstill.hardware.software import NO_SOFTWARE, Software
from flashstill.parallel import Layout
from tests.round import round_conditions

STEP_S, TOKENS, BATCHES = 0.01, 1000.0, 8000


def passes_one_by_one(stages: int, each_s: float, prompts: float, mixes: bool, pieces: int = 1) -> float:
    """Seconds between two steps of the same sequences: `stages` batches go round, and prompts come at random, the
    pieces of each in passes one after the other."""
    draw, part_s, left = random.Random(5), STEP_S / stages, 0
    free, done = [0.0] * stages, [0.0] * (stages + BATCHES)

    def through(start: float, seconds: float) -> float:
        for stage in range(stages):
            start = max(start, free[stage]) + seconds
            free[stage] = start
        return start

    for batch in range(stages, stages + BATCHES):
        left += pieces if draw.random() < prompts / stages else 0
        comes, left = left > 0, max(left - 1, 0)
        if comes and not mixes:
            through(free[0], each_s / stages)
        done[batch] = through(done[batch - stages], each_s / stages if comes and mixes else part_s)
    return done[-1] / BATCHES * stages


@pytest.mark.parametrize("mixes", [True, False])
@pytest.mark.parametrize(("stages", "prompts"), [(1, 0.6), (2, 1.0), (4, 0.5), (8, 2.0)])
def test_a_prompt_delays_all_that_follows_it_through_a_pipeline(stages: int, prompts: float, mixes: bool) -> None:
    """Prompts that take 20 steps: more than one in the time of a token delay little more, until the stages are busy."""
    long_s = 20 * STEP_S
    others = prompts * (TOKENS - 1.0)
    engine: Software = dataclasses.replace(NO_SOFTWARE, interference_ratio=1.0, mixed_ratio=float(mixes))
    paces = Paces(
        step_s=STEP_S, step_joules=1.0, mixed_s=long_s - STEP_S, mixed_joules=1.0, mixed_timed_joules=0.5,
        pass_s=long_s, pass_joules=1.0, pass_timed_joules=0.5, prompts=np.float64(1.0),
    )  # fmt: skip
    load = Load(isl=1000.0, osl=TOKENS, concurrency=others + 1.0)
    layout = Layout(pp=float(stages))
    found = closed_form(round_conditions(software=engine), layout, load, others + 1.0, paces)
    assert float(found.tpot_s) == pytest.approx(passes_one_by_one(stages, long_s, prompts, mixes), rel=0.13)


@pytest.mark.parametrize(("stages", "pieces", "prompts"), [(1, 4, 0.1), (4, 3, 0.3), (4, 8, 0.2), (8, 2, 1.0)])
def test_pieces_of_a_prompt_follow_each_other(stages: int, pieces: int, prompts: float) -> None:
    """They delay what follows, and the first token of their own, for pieces + pp - 1 stages, not pieces pp."""
    long_s, whole_s = 20 * STEP_S, 20 * STEP_S * pieces
    others = prompts * (TOKENS - 1.0)
    engine: Software = dataclasses.replace(NO_SOFTWARE, interference_ratio=1.0, mixed_ratio=1.0)
    paces = Paces(
        step_s=STEP_S, step_joules=1.0, mixed_s=long_s - STEP_S, mixed_joules=1.0, mixed_timed_joules=0.5,
        pass_s=whole_s, pass_joules=1.0, pass_timed_joules=0.5, prompts=np.float64(1.0),
    )  # fmt: skip
    layout, chunk = Layout(pp=float(stages)), int(1000 / pieces)
    load = Load(isl=float(chunk * pieces), osl=TOKENS, concurrency=others + 1.0, chunk=chunk)
    found = closed_form(round_conditions(software=engine), layout, load, others + 1.0, paces)
    passes = passes_one_by_one(stages, long_s, prompts, True, pieces)
    assert float(found.tpot_s) == pytest.approx(passes, rel=0.13)
    alone = closed_form(
        round_conditions(software=engine), layout, dataclasses.replace(load, concurrency=1.0), 1.0, paces
    )
    assert float(alone.ttft_s) == pytest.approx(whole_s * (pieces + stages - 1) / (pieces * stages))
