"""LoRA adapters: read and merge those of others, train a student's own, and write them for peft, vLLM and SGLang."""
