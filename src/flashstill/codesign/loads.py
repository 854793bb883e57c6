"""The deployments on which a load is served: layouts and batches that are tried on every design.

All layouts in powers of two up to a number of packages (plan/tables.py), of mixtures of experts those whose experts
are spread over all chips of a stage; batches in powers of two.  The same for every design: a fair comparison.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from flashstill.arch import Architecture
from flashstill.codesign.future import Share
from flashstill.cost import Conditions, Load
from flashstill.facts import Facts
from flashstill.hardware import Chip
from flashstill.plan.deployment import Deployment
from flashstill.plan.scenario import Scenario, check_bounds, check_scenario
from flashstill.plan.serving_layouts import layouts_of
from flashstill.plan.setup import conditions_of
from flashstill.plan.tables import Candidates, candidates

_BURST_SHARE = Scenario(model="").burst_share
"""part of all requests that arrives at once, as in every other question"""


@dataclass(frozen=True, kw_only=True, slots=True)
class DesignLoad:
    """One model with its traffic, and the deployments on which it is tried. share: its bounds and format.

    alone: the deployments on one chip, for chips without links.
    """

    share: Share
    chosen: Candidates
    alone: Candidates

    @property
    def model(self) -> Architecture:
        """The model."""
        return self.share.model

    @property
    def requests(self) -> Load:
        """Its requests, as many at once as the batch of each of the deployments `chosen`."""
        share = self.share
        return Load(isl=share.isl, osl=share.osl, concurrency=self.chosen.batches, burst_share=_BURST_SHARE)

    @property
    def label(self) -> str:
        """As "llama-3.1-70b 1024+1024"."""
        return f"{self.share.model.name} {self.share.isl}+{self.share.osl}"


def load_of(share: Share, max_chips: int, max_batch: int) -> DesignLoad:
    """The deployments of a share on up to `max_chips` packages.

    BadInput for a load beyond the model's context, and for a bound on a time that it has not.
    """
    asked = Scenario(
        model=share.model, isl=share.isl, osl=share.osl, max_ttft_s=share.max_ttft_s, max_tpot_s=share.max_tpot_s
    )
    check_bounds(asked)
    check_scenario(asked, share.model)
    layouts, refused = layouts_of(share.model, max_chips)
    if share.model.routed:
        layouts = [degrees for degrees in layouts if degrees.ep == degrees.tp * degrees.dp]
    batches = tuple(2**power for power in range(max_batch.bit_length()) if 2**power <= max_batch)
    one = [degrees for degrees in layouts if degrees.chips == 1]
    return DesignLoad(
        share=share, chosen=candidates(layouts, refused, batches), alone=candidates(one, Counter[str](), batches)
    )


def conditions_for(facts: Facts, load: DesignLoad, chip: Chip, weights_in: str | None) -> Conditions:
    """The conditions of the load on a chip, or on a stack of them."""
    deployment = Deployment(chip=chip.name, precision=load.share.precision, weights_in=weights_in)
    return conditions_of(facts, load.model, chip, deployment)
