"""EleutherAI's lm-eval in a process of its own, which asks for answers and returns scores; without torch."""
