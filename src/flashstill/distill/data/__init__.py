"""Text: read, split into training and evaluation, tokenised, packed into windows; tokenizers learned and tried."""
