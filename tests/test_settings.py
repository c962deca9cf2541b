"""What single values take is tested with the whole file, in `tests.test_loading`."""

import yarl
from hypothesis import example, given
from hypothesis import strategies as st

from notifier.document import Mapping, Scalar, Sequence_
from notifier.mistake import Place
from notifier.settings import Settings, kind_of, shown, split_url

PLACE = Place(1, 1)


class Purse(Settings):
    coins: str = "none"
    notes: str = "none"


def test_settings_show_their_keys_and_never_their_values() -> None:
    purse = Purse(coins="hunter2")
    assert repr(purse) == "Purse('coins')"
    assert "hunter2" not in f"{purse} {purse!s} {[purse]}"


def test_a_value_is_quoted_unless_it_came_from_a_reference() -> None:
    assert shown(Scalar("hunter2", PLACE)) == "'hunter2'"
    assert shown(Scalar("two\nlines\u202e", PLACE)) == "'two?lines?'"
    assert shown(Scalar("x" * 100, PLACE)) == f"'{'x' * 59}…'"
    assert shown(Scalar("hunter2", PLACE, is_from_reference=True)) == "the referenced value"


def test_the_kind_of_a_value_does_not_show_it() -> None:
    assert kind_of(Mapping(PLACE)) == "a mapping"
    assert kind_of(Sequence_(PLACE)) == "a list"
    assert kind_of(Scalar("hunter2", PLACE)) == "text"
    assert kind_of(Scalar("", PLACE, is_plain=False)) == "text"
    assert kind_of(Scalar("", PLACE)) == "nothing"
    assert kind_of(None) == "nothing"


letters = st.sampled_from("ab.:/@[]%\\-_é。ß\u0130①x1?#&=\u2100")


@given(st.one_of(st.text(letters, max_size=20), st.text(max_size=10)))
@example("%@①")
@example("\\@1")
@example("[::1%25eth0]:80/x")
@example("a\u2100b/")
@example("xn--/")
def test_a_url_that_is_taken_is_one_to_the_client_too(rest: str) -> None:
    url = f"https://{rest}"
    try:
        split_url(url)
    except ValueError as error:
        sentence = str(error)
    else:
        assert yarl.URL(url).host
        return
    assert sentence.startswith("is ")
