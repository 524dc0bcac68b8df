"""How the labels that a model is asked to answer with are compared."""

from __future__ import annotations

import unicodedata

__all__ = ["folded"]


def folded(text: str) -> str:
    """Return a word without case and width; the letter i has no dot to tell it by.

    Turkish has one i with a dot and one without, in capitals too; elsewhere the capital has none.
    """
    wide = unicodedata.normalize("NFKC", text).casefold()
    return wide.replace("i\u0307", "i").replace("\u0131", "i")
