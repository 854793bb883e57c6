"""Quality: predicted loss of a model from its size, tokens and teacher, by published laws or the user's own runs.

law.py          Law: loss, interval, inverses, remarks         published.py    the table of published laws
forms.py        the formulas                                   borrowed.py     experts, formats, repeats for any law
scales.py       one scale or another: no comparison across     optimum.py      compute- and inference-aware optima
fit.py          a law of the user's own runs                   held_out.py     its error on a run left out
"""

from flashstill.quality.law import Law
from flashstill.quality.prediction import Prediction
from flashstill.quality.published import published, published_names
from flashstill.quality.support import Support

__all__ = ["Law", "Prediction", "Support", "published", "published_names"]
