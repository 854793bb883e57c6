"""Facts: every physical number as a row with unit, range, condition and source; and the loader of these rows.

Rows come from the CSV files of this folder, from the output of `flashstill measure` on this machine, and from
directories the user names (same columns).  Later rows replace earlier ones of equal name, quantity and condition.
"""

from flashstill.facts.edits import Edit
from flashstill.facts.row import Fact, Machine
from flashstill.facts.table import Facts, load, user_directory

__all__ = ["Edit", "Fact", "Facts", "Machine", "load", "user_directory"]
