"""Files of coded tokens that grow, survive kills, and are mapped."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from limbeck.errors import ArtifactError
from limbeck.retrieval import token_store
from limbeck.retrieval.token_store import TokenStore


def key(number: int) -> bytes:
    return number.to_bytes(16, "little")


def tokens(numbers):
    cells = np.array(numbers, dtype=np.uint16)
    return cells, np.repeat(cells.astype(np.uint32)[:, None], 3, axis=1) + 1


def filled(folder, n: int = 3) -> TokenStore:
    store = TokenStore(folder, 3)
    for number in range(n):
        store.append([key(number)], [number], *tokens([number] * number))
    return store


def test_what_was_appended_is_found(tmp_path) -> None:
    filled(tmp_path / "s", 4)
    store = TokenStore(tmp_path / "s", 3)
    assert (len(store), store.n_tokens) == (4, 6)
    assert store.places() == {key(n): n for n in range(4)}
    assert store.starts.tolist() == [0, 0, 1, 3]
    assert store.ends.tolist() == [0, 1, 3, 6]
    assert store.cells.tolist() == [1, 2, 2, 3, 3, 3]
    assert store.codes[:, 0].tolist() == [2, 3, 3, 4, 4, 4]


def test_an_empty_store(tmp_path) -> None:
    store = TokenStore(tmp_path / "s", 3)
    assert (len(store), store.n_tokens, store.codes.shape) == (0, 0, (0, 3))
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("name", ["cells", "codes", "documents"])
@pytest.mark.parametrize("torn", [b"x", b"x" * 24, b"x" * 100])
def test_a_torn_tail_is_cut_off(tmp_path, name, torn) -> None:
    """A kill leaves tokens without their document; a document is written behind its tokens."""
    filled(tmp_path / "s")
    if name != "documents":
        with open(tmp_path / "s" / f"{name}.bin", "ab") as file:
            file.write(torn)
    else:
        os.truncate(tmp_path / "s" / "documents.bin", 3 * 24 - len(torn) % 24)
    store = TokenStore(tmp_path / "s", 3)
    n = len(store)
    store.append([key(9)], [2], *tokens([9, 9]))
    again = TokenStore(tmp_path / "s", 3)
    assert again.places() == {**{key(i): i for i in range(n)}, key(9): n}
    assert again.cells[-2:].tolist() == [9, 9]
    assert again.codes[-2:, 0].tolist() == [10, 10]


def test_a_full_disk_keeps_what_was_whole(tmp_path, monkeypatch) -> None:
    store = filled(tmp_path / "s")
    real = token_store._append

    def full(path, rows):
        if path.name == "codes.bin":
            real(path, rows[:1])
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, rows)

    monkeypatch.setattr(token_store, "_append", full)
    with pytest.raises(ArtifactError, match="the disk is full; 3 documents are kept"):
        store.append([key(9)], [2], *tokens([9, 9]))
    monkeypatch.setattr(token_store, "_append", real)
    assert len(TokenStore(tmp_path / "s", 3)) == 3
    store.append([key(9)], [2], *tokens([9, 9]))
    assert TokenStore(tmp_path / "s", 3).cells.tolist() == [1, 2, 2, 9, 9]


def test_a_reader_sees_the_part_it_was_told_of(tmp_path) -> None:
    filled(tmp_path / "s", 4)
    reader = TokenStore.opened(tmp_path / "s", 3, 3, 3)
    assert (len(reader), reader.cells.tolist()) == (3, [1, 2, 2])
    with pytest.raises(
        ArtifactError, match=r"documents.bin must have 120 bytes or more; it has 96"
    ):
        TokenStore.opened(tmp_path / "s", 3, 5, 6)
    with pytest.raises(ArtifactError, match=r"cells.bin must have 14 bytes or more; it has 12"):
        TokenStore.opened(tmp_path / "s", 3, 4, 7)
