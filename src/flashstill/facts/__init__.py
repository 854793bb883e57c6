"""Facts: every physical number as a row with a unit, a range, a condition and a source; and the loader of the rows.

Rows come from the CSV files of this folder, from directories the user names (same columns), and from what `measure`
wrote about this machine.  Later rows replace earlier ones of the same name, quantity and condition.
"""

from flashstill.facts.edits import Edit
from flashstill.facts.row import Fact, Machine
from flashstill.facts.table import Facts, load, user_directory

__all__ = ["Edit", "Fact", "Facts", "Machine", "load", "user_directory"]
