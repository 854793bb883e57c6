"""Self-contained HTML pages and their charts, from records and answers. Formatting only; nothing is modelled here."""
