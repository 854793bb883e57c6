"""Deep think to flash: problems, chains that a model thinks, verdicts on them, and what is worth learning from."""
