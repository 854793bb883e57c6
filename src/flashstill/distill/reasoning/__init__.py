"""Distilling reasoning: problems, sampled chains of thought, verdicts on them, and the choice of training examples."""
