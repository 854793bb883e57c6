"""Silicon of one's own: a chip derived from a model, its time, joules and dollars per token."""
