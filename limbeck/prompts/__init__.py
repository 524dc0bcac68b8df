"""Prompts: templates kept as data and known by their hash, and parsers of what models answer."""
