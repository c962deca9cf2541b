import pytest

from notifier.repetition import Repetition


def test_a_text_is_news_when_it_changes_and_counted_when_it_does_not() -> None:
    said = Repetition()
    assert [said.news(text) for text in ("a", "a", "a", "b", "a")] == [0, None, None, 3, 1]


def test_what_was_forgotten_is_news_and_counts_for_nothing() -> None:
    said = Repetition()
    said.news("a")
    said.news("a")
    said.forget()
    assert [said.news("a"), said.news("b")] == [0, 1]


@pytest.mark.parametrize(
    ("before", "after", "is_news"),
    [
        ("HTTP 500", "HTTP 503", True),
        ("HTTP 500: busy", "HTTP 503: busy", True),
        ("HTTP 500: request 41 failed", "HTTP 500: request 42 failed", False),
        ("HTTP 500: 41", "HTTP 500: 42", False),
        ("HTTP 500: at 12:38:20Z, id=8f3a-01", "HTTP 500: at 12:38:25Z, id=77be-02", False),
        ("HTTP 500: request 41 failed", "HTTP 500: request 41 was refused", True),
        ("as HTTP 500 says", "as HTTP 502 says", False),
        ("no answer", "no connection", True),
        ('HTTP 400: {"code":1,"error":"invalid"}', 'HTTP 400: {"code":2,"error":"archived"}', True),
        (
            'HTTP 400: {"code":1,"request":"req_8fK3aZq2"}',
            'HTTP 400: {"code":1,"request":"req_77Kb02xx"}',
            False,
        ),
    ],
)
def test_a_number_that_changes_is_no_news_but_a_status_is(before: str, after: str, is_news: bool) -> None:
    said = Repetition()
    said.news(before)
    assert (said.news(after) == 1) is is_news
