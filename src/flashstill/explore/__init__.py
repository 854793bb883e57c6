"""The page that explores the engine's answers in a browser: server, state of the page, views."""
