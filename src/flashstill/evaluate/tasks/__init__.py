"""Tasks: multiple choice and generation through lm-eval, and problems of reasoning-gym -> QualityRecords."""
