from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from limbeck.llm.request import Reply
from limbeck.llm.slots import Slots
from tests.llm.layers import call


def test_never_more_at_once_than_slots():
    lock = threading.Lock()
    now, most = [0], [0]

    def slow(_):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        with lock:
            now[0] -= 1
        return Reply()

    layer = Slots(slow, concurrency=3)
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(layer, [call()] * 12))
    assert most[0] == 3
