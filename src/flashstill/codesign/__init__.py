"""Chips that do not exist yet: what each number of a chip is worth, which chip to build, and for which future."""
