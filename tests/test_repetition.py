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
