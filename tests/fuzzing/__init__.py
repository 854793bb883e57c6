"""A seeded fuzzer of the command line: bad inputs of every kind, each in a process of its own, judged by what it shows.

`scripts/fuzz --count 10000 --seed 0` makes them; a failing one is kept with its arguments and can be run again by its
number: `scripts/fuzz --seed 0 --only 1234`.
"""
