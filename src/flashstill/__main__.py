"""`python -m flashstill`."""

from flashstill.cli import main

main()
