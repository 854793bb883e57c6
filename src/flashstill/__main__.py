"""`python -m flashstill`.

Python puts the working directory first where it looks for modules, so that a stranger's `difflib.py` there would run
in place of the library's.  It is taken off before anything else is imported; this package is found already.  (What
Python itself imports before that it is not ours to guard: the `flashstill` command and `python -P -m flashstill` have
no such moment.)
"""

import os
import sys

try:
    HERE = os.getcwd()  # noqa: PTH109 - pathlib may be a stranger's yet
except OSError:  # the working directory was removed
    HERE = ""
if not sys.flags.safe_path and sys.path[0] in ("", HERE):
    del sys.path[0]

try:
    from flashstill.cli import main

    main()
except KeyboardInterrupt:  # interrupted during the imports: nothing to clean up
    sys.exit(130)
