"""Loads an OpenAI-compatible server with requests, and measures what their users would see."""
