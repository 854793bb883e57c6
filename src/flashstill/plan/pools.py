"""The layout of a prefill instance, where prefill and decoding run on pools of their own, and what is refused."""

from __future__ import annotations

from flashstill.arch import Architecture
from flashstill.cost import Conditions
from flashstill.errors import BadInput, InfeasiblePlan
from flashstill.plan.deployment import Deployment
from flashstill.plan.layouts import Degrees, degrees_of
from flashstill.plan.scenario import Occupancy, Scenario


def prefill_degrees(
    model: Architecture, conditions: Conditions, scenario: Scenario, deployment: Deployment, decode: Degrees
) -> Degrees:
    """The layout of one prefill instance, by default the fewest chips that hold one prompt.

    BadInput for an impossible layout, or requests of one output token; InfeasiblePlan if nothing joins the pools.
    """
    if scenario.osl == 1 and scenario.context is None:
        raise BadInput("with one output token nothing is decoded; leave the prefill pool out, or raise osl")
    prompt = Occupancy(1.0, float(scenario.isl), float(scenario.isl))
    try:
        degrees = degrees_of(model, conditions, deployment.of_prefill, prompt)
    except BadInput as error:
        raise BadInput(f"prefill pool: {error}") from error
    chip, instances = conditions.chip, deployment.prefill_instances or 1
    chips = decode.chips + instances * degrees.chips
    joined = chips <= chip.system.domain_chips and chip.topology.link_bytes_per_s
    if not joined and not chip.system.scale_out_bytes_per_s:
        raise InfeasiblePlan(
            f"the cache of {model.name} cannot travel between pools of {chips} x {chip.name} together, which have no"
            " links between them",
            {"no links": 1},
        )
    return degrees
