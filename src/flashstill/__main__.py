"""`python -m flashstill`.

`python -m` puts the working directory first on sys.path, so a `difflib.py` there would shadow the standard library's.
It is removed from sys.path before other imports; this package is already located.  Modules that Python imports at
startup, before this file, can still be shadowed; the `flashstill` command and `python -P -m flashstill` avoid that.
"""

import os
import sys

try:
    HERE = os.getcwd()  # noqa: PTH109 - pathlib could still be shadowed by a file in the working directory
except OSError:  # the working directory was removed
    HERE = ""
if not sys.flags.safe_path and sys.path[0] in ("", HERE):
    del sys.path[0]

try:
    from flashstill.cli import main

    main()
except KeyboardInterrupt:  # interrupted during the imports: nothing to clean up
    sys.exit(130)
