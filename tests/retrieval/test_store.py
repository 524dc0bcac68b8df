"""Records by content: what a store holds, whatever it was given first."""

from __future__ import annotations

import numpy as np
import pytest

from limbeck.errors import ArtifactError
from limbeck.retrieval.store import Store

ROW = np.dtype("<f4")


def test_a_first_record_may_have_no_rows(tmp_path) -> None:
    """Such a store could not be opened again: an empty file cannot be mapped."""
    keys = [bytes([number]) * 16 for number in range(4)]
    store = Store(tmp_path / "s", ROW)
    store.append(keys[:2], [0, 0], np.zeros(0, ROW))
    for opened in (store, Store(tmp_path / "s", ROW)):
        bounds, rows = opened.records(keys[:2]).packed()
        assert (bounds.tolist(), rows.tolist()) == ([0, 0, 0], [])
    store.append(keys[2:], [0, 2], np.array([1, 2], ROW))
    for opened in (store, Store(tmp_path / "s", ROW)):
        bounds, rows = opened.records(keys[::-1]).packed()
        assert (bounds.tolist(), rows.tolist()) == ([0, 2, 2, 2, 2], [1, 2])


def test_a_folder_that_cannot_be_made_is_told(tmp_path) -> None:
    """A cache below a file ended in a traceback."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(ArtifactError, match=r"taken/s must be writable; got: Not a directory"):
        Store(tmp_path / "taken" / "s", ROW)
