"""A family's money: its teacher as a prerequisite, its students, who serves what, and whether distilling is worth it.

spec.py       the plan of a family, and its TOML file         costs.py        dollars per million tokens, by part
training.py   dollars of training runs                         lifetime.py     spread over the tokens of a life
signals.py    what students pay for their teacher's signals    serving.py      the cheapest deployment of each model
"""

from flashstill.family.costs import family_costs
from flashstill.family.member_costs import FamilyCosts, MemberCosts
from flashstill.family.spec import FamilyPlan, plan_of, read_plan

__all__ = ["FamilyCosts", "FamilyPlan", "MemberCosts", "family_costs", "plan_of", "read_plan"]
