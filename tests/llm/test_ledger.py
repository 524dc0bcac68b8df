from __future__ import annotations

import pytest

from limbeck.llm.ledger import Ledger, cost_usd, saved
from limbeck.llm.request import Failed, Sample
from limbeck.meter import Usage, metered
from tests.llm.layers import Spoken, call

PRICE = (2.0, 8.0)


def test_cost_is_price_by_the_million():
    assert cost_usd(PRICE, 1_000_000, 500_000) == 6.0
    assert cost_usd(None, 10, 10) == 0.0


def test_a_call_is_charged_with_its_tokens_money_and_seconds():
    with metered() as meter:
        Ledger(Spoken(), price=PRICE)(call(2))
    usage = meter.usage
    assert (usage.calls, usage.prompt_tokens, usage.completion_tokens) == (1, 3, 8)
    assert usage.usd == pytest.approx((3 * 2 + 8 * 8) / 1e6)
    assert usage.seconds > 0


def test_a_failed_call_is_a_call_without_tokens():
    def fails(_):
        raise Failed("http 500")

    with metered() as meter, pytest.raises(Failed):
        Ledger(fails, price=PRICE)(call())
    assert (meter.usage.calls, meter.usage.prompt_tokens, meter.usage.usd) == (1, 0, 0.0)


def test_what_samples_save_is_what_their_call_cost():
    samples = [Sample("a", prompt_tokens=3, completion_tokens=4), Sample("b", completion_tokens=4)]
    assert saved(samples, PRICE) == Usage(
        saved_calls=1,
        saved_prompt_tokens=3,
        saved_completion_tokens=8,
        saved_usd=cost_usd(PRICE, 3, 8),
    )
