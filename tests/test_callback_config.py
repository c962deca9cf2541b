"""What the watchlist says of callbacks: an address of its own, and a path that is a secret."""

import pytest

from notifier.secret import Masker, is_guessable, path_parts
from tests.support.watchlists import BASE, loaded, mistakes, paths_of

DRAWN = "/hooks/useapi/9f3c1b7e24d8a6050c1e"
NO_PATH = "is no path to answer: expected / and then letters, digits or any of /-._~!$&'()*+,;=:@"


def warnings(text: str, *, is_public: bool = False) -> list[str]:
    return [warning.line("w") for warning in loaded(text, is_public=is_public).warnings]


def calling(path: str, listen: str = "127.0.0.1:8721") -> str:
    return f'{BASE}callback: {{listen: "{listen}", path: "{path}"}}\n'


@pytest.mark.parametrize("path", [DRAWN, "/", "/a/b-c_d.e~f", "/!$&'()*+,;=:@", "/x/", "/" + "a" * 511])
def test_a_path_is_whatever_arrives_as_it_was_written(path: str) -> None:
    callback = loaded(calling(path.replace("$", "$$"))).config.callback
    assert callback is not None
    assert callback.path.reveal() == path


@pytest.mark.parametrize(
    "path",
    [
        "hooks/hunter2hunter2",
        "//hunter2hunter2",
        "/a b/hunter2",
        "/hunter2?key=hunter2",
        "/hunter2#x",
        "/hunter2/%41",
        "/hunter2/../x",
        "/./hunter2",
        "/hünter2",
        "/hunter2\\n",
        "https://example.com/hunter2",
        "/" + "hunter2" * 100,
    ],
)
def test_what_is_no_path_is_a_mistake_that_does_not_show_it(path: str) -> None:
    (line,) = mistakes(calling(path))
    assert line.endswith(f"callback.path: {NO_PATH}")
    assert "unter" not in line


def test_a_path_may_come_from_a_reference_and_is_masked_with_its_parts() -> None:
    found = loaded(calling("/hooks/${env:P}"), {"P": "9f3c1b7e24d8a6050c1e"})
    assert found.config.callback is not None
    assert repr(found.config.callback.path) == "***"
    for secrets in (found.secrets, [*loaded(calling(DRAWN)).config.secrets()]):
        said = Masker(secrets).mask("POST /hooks/9f3c1b7e24d8a6050c1e or 9f3c1b7e24d8a6050c1e/x")
        assert "9f3c" not in said
    assert loaded(calling("${env:P}"), {}, resolve=False).config.callback is not None


def test_an_address_is_no_secret_wherever_it_comes_from() -> None:
    found = loaded(calling(DRAWN, "${env:L}"), {"L": "127.0.0.1:9000"})
    assert Masker(found.secrets).mask("127.0.0.1:9000") == "127.0.0.1:9000"


@pytest.mark.parametrize(
    ("http", "is_mistake"),
    [
        ("127.0.0.1:8721", True),
        ("localhost:08721", True),
        ("{listen: 0.0.0.0:8721}", True),
        ("127.0.0.1:8720", False),
        ("{hosts: []}", False),
    ],
)
def test_the_port_is_not_that_of_http(http: str, is_mistake: bool) -> None:
    found = [line for line in mistakes(f"{calling(DRAWN)}http: {http}\nno: 1\n") if "callback" in line]
    said = "w:4:20: callback.listen: has the port of http: choose another one"
    assert found == ([said] if is_mistake else [])


def test_what_others_could_hear_or_guess_is_a_warning() -> None:
    assert warnings(calling(DRAWN)) == []
    assert warnings(calling(DRAWN, "[::1]:8721")) == []
    (heard,) = warnings(calling(DRAWN, "0.0.0.0:8721"))
    assert "w:4:20: callback.listen: warning: calls come unencrypted" in heard
    (guessed,) = warnings(calling("/hooks/useapi/SECRET"))
    assert "callback.path: warning: can be guessed" in guessed
    assert "SECRET" not in guessed
    assert "callback.path" in paths_of(warnings(calling(DRAWN), is_public=True))


@pytest.mark.parametrize(
    ("path", "is_weak"),
    [
        ("/", True),
        ("/hooks/useapi/SECRET", True),
        ("/hooks/useapi/changeme123", True),
        ("/hooks/the-callback-of-the-notifier", True),
        ("/hooks/0000000000000000000", True),
        ("/hooks/20261125235900123456", True),
        ("/hooks/a1a1a1a1a1a1a1a1a1a1", True),
        ("/9f3c1b7e24d8a605", False),
        ("/9f3c1b7e24d8a605/useapi", False),
        ("/hooks/Zk3vQ8xT_LmN0pYwRb2c", False),
    ],
)
def test_a_path_can_be_guessed_that_was_not_drawn_by_lot(path: str, is_weak: bool) -> None:
    assert is_guessable(path) is is_weak


@pytest.mark.parametrize(
    ("path", "said", "kept"),
    [
        (
            "/hooks/9f3c1b7e24d8a6050c1e",
            "https://a.example/hooks/9f3c1b7e24d8a6050c1e",
            "https://a.example***",
        ),
        ("/hooks/9f3c1b7e24d8a6050c1e", "9f3c1b7e24d8a6050c1e", "***"),
        ("/hooks/somebody.else@example.com/9f3c1b7e24d8a6050c1e", "somebody.else@example.com", None),
        ("/hooks/COMPLETED/music-2.6", "COMPLETED by music-2.6", None),
        ("/api", "https://media.example/api/1.mp3", None),
    ],
)
def test_what_the_api_says_is_kept_but_for_what_gives_the_path_away(
    path: str, said: str, kept: str | None
) -> None:
    assert Masker(path_parts(path)).mask(said) == (said if kept is None else kept)
