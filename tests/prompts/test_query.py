"""What models say around a query."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.prompts.query import clean_query


@pytest.mark.parametrize(
    ("answer", "query"),
    [
        ("how do postings lists work", "how do postings lists work"),
        ('"how do postings lists work?"\n', "how do postings lists work?"),
        ("Query: how do postings\tlists  work", "how do postings lists work"),
        ("**Search query:** *what is BM25 (Okapi)*", "what is BM25 (Okapi)"),
        ("Sure! Here is a short query:\n\n1. what is stemming\n2. why stem", "what is stemming"),
        ("Here are some queries:\n- “what is stemming”\n- why stem", "what is stemming"),
        ("Question 1: what is C++", "what is C++"),
        ("<think>\nThe user wants a query.\n</think>\n\nwhat is stemming", "what is stemming"),
        ("<think>\nThe user wants", ""),
        ('```json\n{"query": "what is stemming"}\n```', "what is stemming"),
        ("A person would type:\nwhat is stemming", "what is stemming"),
        ("**A person would type:**\nwhat is stemming", "what is stemming"),
        ("Searches:", ""),
        ("Query:\nwhat is stemming", "what is stemming"),
        ("(un)supervised learning", "(un)supervised learning"),
        ("3 ways to stem", "3 ways to stem"),
        ("情報検索とは", "情報検索とは"),
        ("of course not", "of course not"),
        ("Sure! Here's a query: how do postings lists work", "how do postings lists work"),
        ("Here is a short search query: **what is BM25**", "what is BM25"),
        ('Certainly! Here are some queries: "what is stemming"', "what is stemming"),
        ("Okay, what is stemming", "what is stemming"),
        ("Certainly!\nwhat is stemming", "what is stemming"),
        ("Sure, I can help with that!\nwhat is stemming", "what is stemming"),
        ("Here is a query for the document.\nwhat is stemming", "what is stemming"),
        ("Sure ways to lose weight!", "Sure ways to lose weight!"),
        ("Certainly a question of taste.", "Certainly a question of taste."),
        ("Here is why: the film", "Here is why: the film"),
        ("Here's Johnny!", "Here's Johnny!"),
        ("10. Downing Street", "10. Downing Street"),
        ("(1) what is stemming\n(2) why stem", "what is stemming"),
        ("?!", ""),
        ("", ""),
    ],
)
def test_the_first_query_is_taken_and_what_stands_around_it_is_not(answer, query):
    assert clean_query(answer) == query


@given(st.text())
def test_any_text_gives_one_line_and_a_second_time_changes_no_letter(text):
    query = clean_query(text)
    assert query == " ".join(query.split())
    assert not query or any(character.isalnum() for character in query)
