"""What models answer when they are asked to choose, to grade or to rank, read from their text.

The parsers are tolerant: chat around the answer, other brackets, markdown, thinking aloud. They do
not guess: an answer that names several labels and none as its choice has none.
"""

from __future__ import annotations

from limbeck.prompts.choice import choice, final_choice
from limbeck.prompts.ranking import permutation

__all__ = ["VERSION", "choice", "final_choice", "permutation"]

VERSION = 2
"""Raised whenever the same answer may be read otherwise: it is part of fingerprints."""
