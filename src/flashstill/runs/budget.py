"""A student by budget: measure this machine, predict every candidate, pick the largest that fits, compare at the end.

budget.json   measurements, all candidates with their predictions, the pick; read again when a run is resumed
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.arch.adapter.sizes import CONTEXT, stated_size
from flashstill.checked import json_object
from flashstill.errors import BadInput, InfeasiblePlan
from flashstill.files import write_text
from flashstill.progress import Progress
from flashstill.recipes import DistillRecipe
from flashstill.recipes.validation import share_of_training
from flashstill.runs import kept
from flashstill.runs.regimes import asks_teachers, objective_of, train_recipe_of
from flashstill.runs.served import origin_of
from flashstill.runs.sources import together
from flashstill.runs.students import made_ready
from flashstill.runs.workdir import Workdir
from flashstill.units import show

if TYPE_CHECKING:
    from flashstill.distill.training import World
    from flashstill.measure.budget import Forecast, Training
    from flashstill.measure.candidates import Candidate
    from flashstill.measure.trial import Trial
    from flashstill.runs.engine import Distillation

FILE, RATE, MEMORY = "budget.json", "rate.json", "memory.json"
SIZES = ("keep_layers", "hidden", "feed_forward", "key_heads")
SHOWN = 8


def settled(work: Distillation) -> DistillRecipe:
    """The recipe with the largest student within its budget; unchanged if it has no budget.

    A collective call; rank 0 decides.  Raises InfeasiblePlan if no candidate fits.
    """
    recipe, path = work.recipe, work.workdir.out / FILE
    if not recipe.budget.is_set:
        return recipe
    if not path.is_file():
        trial = _trial(work)
        candidates = _candidates(recipe, trial.origin)
        decided = _chosen(recipe, candidates, trial, work.world, work.progress)
        if work.world.is_main:
            write_text(path, json.dumps(decided, indent=1))
        work.world.barrier()
    try:
        sizes = kept.pick(path)["sizes"]
        changes: dict[str, Any] = {name: int(sizes[name]) for name in SIZES}
    except (BadInput, KeyError) as error:
        raise BadInput(
            f"{path} does not say which student was picked; delete {work.workdir.out} and run again"
        ) from error
    return dataclasses.replace(recipe, student=dataclasses.replace(recipe.student, **changes))


def _trial(work: Distillation) -> Trial:
    from flashstill.distill.teachers import Online
    from flashstill.measure.trial import Trial

    recipe, teachers = work.recipe, [work.model(index) for index in range(len(work.recipe.teachers))]
    return Trial(
        origin=origin_of(recipe, work.directories[0], lambda: teachers[0], work.progress, work.arithmetic.dtype)[0],
        teachers=teachers,
        source=together(recipe, [Online(model, as_kept=True) for model in teachers]),
        objective=lambda source: objective_of(recipe, source),
        kind=None if recipe.signals.kind == "none" or not asks_teachers(recipe) else work.kind("train"),
        packed=work.packed("train"),
        recipe=train_recipe_of(recipe),
        prepare=lambda student: made_ready(recipe, student),
        context=recipe.budget.context,
    )


def _chosen(
    recipe: DistillRecipe, candidates: Sequence[Candidate], trial: Trial, world: World, progress: Progress
) -> dict[str, Any]:
    from flashstill.measure.budget import UNBOUNDED, Bounds, forecast, pick
    from flashstill.measure.memory import machine_bytes
    from flashstill.measure.trial import measured

    speed = measured(trial, candidates, progress)
    if not world.is_main:
        return {}
    budget, task = recipe.budget, _training(recipe, trial, world.size)
    bounds = Bounds(
        seconds=budget.seconds,
        weight_bytes=budget.memory_gb * 1e9 or UNBOUNDED,
        decode_s=budget.latency_ms / 1e3 or UNBOUNDED,
        training_bytes=machine_bytes(),
    )
    forecasts = [forecast(candidate, speed, task, bounds) for candidate in candidates]
    try:
        best = pick(forecasts)
    except InfeasiblePlan:
        _say(progress, forecasts, None)
        raise
    _say(progress, forecasts, best)
    return {
        "measured": dataclasses.asdict(speed),
        "training": dataclasses.asdict(task),
        "candidates": [_as_json(each) for each in forecasts],
        "pick": _as_json(best),
    }


def _candidates(recipe: DistillRecipe, origin: Any) -> list[Candidate]:
    from flashstill.distill.students import Width
    from flashstill.measure.candidates import fields_of, narrower, shallower

    student, fields = recipe.student, fields_of(origin)
    if recipe.budget.context > (stated_size(fields, CONTEXT) or recipe.budget.context):
        raise BadInput(f"budget.context is {recipe.budget.context}, more than the teacher was made for")
    if student.kind == "depth":
        return shallower(fields, student.keep_layers)
    asked_width = Width(hidden=student.hidden, feed_forward=student.feed_forward, key_heads=student.key_heads)
    group = student.group if student.quantise in ("int4", "ternary") else 1
    return narrower(fields, asked_width if asked_width != Width() else None, group)


def _training(recipe: DistillRecipe, trial: Trial, processes: int) -> Training:
    from flashstill.measure.budget import Training

    return Training(
        steps=trial.recipe.steps(trial.packed.length),
        tokens_per_step=trial.recipe.windows_per_step * trial.packed.length,
        signal_tokens=trial.packed.token_count // processes,  # each process builds its share
        quantise=recipe.student.quantise,
        group=recipe.student.group,
        validation=share_of_training(recipe),
    )


def _as_json(forecast: Forecast) -> dict[str, Any]:
    return {
        "student": forecast.candidate.name,
        "sizes": {name: getattr(forecast.candidate, name) for name in SIZES},
        "parameters": forecast.candidate.parameters,
        "tokens_per_s": round(forecast.tokens_per_s, 1),
        "signals_minutes": round(forecast.signals_s / 60.0, 3),
        "training_minutes": round(forecast.training_s / 60.0, 3),
        "decode_ms": round(forecast.decode_s * 1e3, 3),
        "weight_bytes": round(forecast.weight_bytes),
        "training_bytes": round(forecast.training_bytes),
        "reasons": list(forecast.reasons),
    }


def _say(progress: Progress, forecasts: Sequence[Forecast], best: Forecast | None) -> None:
    """Print a table of the candidates around the pick."""
    middle = forecasts.index(best) if best is not None else len(forecasts) - 1
    first = max(0, min(middle - SHOWN // 2, len(forecasts) - SHOWN))
    header = f"{'student':<34}{'tokens/s':>9}{'minutes':>9}{'decode':>10}{'weights':>10}{'to train':>10}"
    progress.say(f"{header}  ({len(forecasts)} candidates)")
    for forecast in forecasts[first : first + SHOWN]:
        minutes = (forecast.signals_s + forecast.training_s) / 60.0
        sizes = f"{show(forecast.weight_bytes, 'B'):>10}{show(forecast.training_bytes, 'B'):>10}"
        verdict = "  <- picked" if forecast is best else f"  {'; '.join(forecast.reasons)}" if forecast.reasons else ""
        speeds = f"{forecast.tokens_per_s:>9,.0f}{minutes:>9.2f}{show(forecast.decode_s, 's'):>10}"
        progress.say(f"{forecast.candidate.name:<34}{speeds}{sizes}{verdict}")


def note_signals(recipe: DistillRecipe, workdir: Workdir, built: Mapping[str, Mapping[str, Any]], tokens: int) -> None:
    """Store the time of all signals, extrapolated from this build, for `outcome`. tokens: of one process's share."""
    rates = [each["tokens_per_s"] for each in built.values()]
    if recipe.budget.is_set and rates and all(rates):
        write_text(
            workdir.signals / RATE, json.dumps({"minutes": round(sum(tokens / rate for rate in rates) / 60.0, 3)})
        )


def outcome(recipe: DistillRecipe, workdir: Workdir, student: Any, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Predicted and measured values, for summary.json. training_bytes: peak memory of the last training process."""
    from flashstill.measure.trial import decode_seconds

    predicted = kept.pick(workdir.out / FILE)
    peak, signals = _json_if_there(workdir.training / MEMORY), _json_if_there(workdir.signals / RATE)
    measured = {
        "tokens_per_s": summary["tokens_per_s"],
        "signals_minutes": signals.get("minutes"),
        "training_minutes": round(summary["training_s"] / 60.0, 3),
        "decode_ms": round(decode_seconds(student, recipe.budget.context) * 1e3, 3),
        "weight_bytes": _weights(workdir.packed_student if recipe.student.quantise else workdir.student),
        "training_bytes": peak.get("bytes"),
    }
    expected = {name: predicted[name] for name in measured}
    return {"student": predicted["student"], "predicted": expected, "measured": measured}


def outcome_lines(compared: Mapping[str, Any]) -> list[str]:
    """The lines of a table of predicted and measured values. compared: the result of `outcome`."""
    scales = {"minutes": (60.0, "s"), "ms": (1e-3, "s"), "bytes": (1.0, "B"), "s": (1.0, "tokens/s")}
    lines = [f"{compared['student'] + ', picked by budget':<36}{'predicted':>14}{'measured':>14}"]
    for name, expected in compared["predicted"].items():
        scale, unit = scales[name.rsplit("_", 1)[-1]]
        came = compared["measured"][name]
        values = [show(value * scale, unit) if value is not None else "unknown" for value in (expected, came)]
        lines.append(f"{NAMES[name]:<36}{values[0]:>14}{values[1]:>14}")
    return lines


NAMES = {
    "tokens_per_s": "training",
    "signals_minutes": "all signals",
    "training_minutes": "all steps",
    "decode_ms": "a decoded token",
    "weight_bytes": "weights",
    "training_bytes": "most memory while training",
}


def _weights(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.glob("*.safetensors"))


def _json_if_there(path: Path) -> dict[str, Any]:
    return json_object(path) if path.is_file() else {}
