"""Training data: read text, split it into training and evaluation sets, tokenise it and pack it into windows."""
