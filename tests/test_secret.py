import html
import json
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.secret import (
    Masker,
    ReferenceError_,
    Secret,
    Sources,
    check_references,
    expand,
    has_reference,
    url_parts,
)

TOKEN = "user:123-hunter2hunter2"
ENVIRONMENT = {
    "TOKEN": TOKEN,
    "LINE": f"{TOKEN}\n",
    "WINDOWS": f"{TOKEN}\r\n",
    "TWO_LINES": f"{TOKEN}\n\n",
    "DOLLARS": "${env:TOKEN} $$ $TOKEN",
    "EMPTY": "",
    "NEWLINE": "\n",
    "BYTES": "caf\udce9",
}
FORM = (
    "'${' starts a reference: write ${env:NAME}, ${file:/path} or ${credential:name}, "
    "or '$$' for a literal '$'"
)


def sources(**more: str) -> Sources:
    return Sources({**ENVIRONMENT, **more})


def refusal(text: str, where: Sources | None = None) -> str:
    with pytest.raises(ReferenceError_) as caught:
        expand(text, where or sources())
    return str(caught.value)


def test_a_secret_never_shows_itself() -> None:
    secret = Secret(TOKEN)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", "%s" % secret, repr([secret])]  # noqa: UP031
    assert not [text for text in shown if "hunter2" in text]
    assert str(secret) == "***"
    assert secret.reveal() == TOKEN


def test_a_secret_is_not_shown_by_a_traceback_with_locals() -> None:
    secret = Secret(TOKEN)
    try:
        raise RuntimeError(secret)
    except RuntimeError as error:
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
    assert "hunter2" not in "".join(told.format())


def test_secrets_are_equal_by_value_and_to_nothing_else() -> None:
    assert Secret("a") == Secret("a")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("plain", "plain"),
        ("", ""),
        ("${env:TOKEN}", TOKEN),
        ("Bearer ${env:TOKEN}!", f"Bearer {TOKEN}!"),
        ("${env:TOKEN}${env:TOKEN}", TOKEN * 2),
        # exactly one line end goes
        ("${env:LINE}", TOKEN),
        ("${env:WINDOWS}", TOKEN),
        ("${env:TWO_LINES}", f"{TOKEN}\n"),
        # what comes in is not expanded again
        ("${env:DOLLARS}", "${env:TOKEN} $$ $TOKEN"),
        # defaults stand in for what is missing or empty
        ("${env:NOBODY:-fallback}", "fallback"),
        ("${env:EMPTY:-fallback}", "fallback"),
        ("${env:TOKEN:-fallback}", TOKEN),
        ("${env:NOBODY:-a:-b}", "a:-b"),
        ("${env:NOBODY:-https://example.com/?a=b&c}", "https://example.com/?a=b&c"),
        ("${env:NOBODY:-5$$}", "5$"),
        # a dollar is a dollar
        ("5$", "5$"),
        ("$TOKEN $(id) $1 $", "$TOKEN $(id) $1 $"),
        ("$$", "$"),
        ("$$$", "$$"),
        ("$$$$", "$$"),
        ("$${env:TOKEN}", "${env:TOKEN}"),
        ("$$${env:TOKEN}", f"${TOKEN}"),
        ("{env:TOKEN}", "{env:TOKEN}"),
        ("$ {env:TOKEN}", "$ {env:TOKEN}"),
    ],
)
def test_references_are_replaced_and_dollars_kept(text: str, expanded: str) -> None:
    assert expand(text, sources())[0] == expanded


def test_every_value_that_came_in_is_reported_by_itself() -> None:
    text, values = expand("https://${env:HOST}/${env:NOBODY:-hooks}/$$x", sources(HOST="example.com\n"))
    assert text == "https://example.com/hooks/$x"
    assert values == ("example.com", "hooks")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("${env:NOBODY}", "the environment variable NOBODY is missing or empty"),
        ("${env:EMPTY}", "the environment variable EMPTY is missing or empty"),
        ("${env:NEWLINE}", "the environment variable NEWLINE is missing or empty"),
        ("${env:NOBODY:-}", "the environment variable NOBODY is missing or empty"),
        ("${env:BYTES}", "the environment variable BYTES is not UTF-8 text"),
        ("${file:/nobody/here}", "the file /nobody/here cannot be read: No such file or directory"),
        ("${file:/nobody/\nhere\x1b}", "the file /nobody/ here cannot be read: No such file or directory"),
        (
            "${credential:slack-url}",
            "there are no credentials here: $CREDENTIALS_DIRECTORY is not set, "
            "systemd sets it where the unit has LoadCredential=slack-url:PATH",
        ),
    ],
)
def test_a_reference_to_nothing_names_the_place(text: str, sentence: str) -> None:
    check_references(text)
    assert refusal(text) == sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("${", "a '${' is never closed; write '$$' for a literal '$'"),
        ("a ${env:TOKEN", "a '${' is never closed; write '$$' for a literal '$'"),
        ("${}", FORM),
        ("${TOKEN}", FORM),
        ("${ENV:TOKEN}", FORM),
        ("${ env:TOKEN }", FORM),
        ("${vault:x}", FORM),
        ("${env:}", "${env:…} wants the name of an environment variable"),
        ("${env:1A}", "${env:…} wants the name of an environment variable"),
        ("${env:A B}", "${env:…} wants the name of an environment variable"),
        ("${env:A-x}", "${env:…} wants the name of an environment variable"),
        ("${env:TÖKEN}", "${env:…} wants the name of an environment variable"),
        ("${file:}", "${file:…} wants an absolute path"),
        ("${file:secret.txt}", "${file:…} wants an absolute path"),
        ("${file:~/secret}", "${file:…} wants an absolute path"),
        ("${file:/a\0b}", "${file:…} wants an absolute path"),
        ("${credential:}", "${credential:…} wants a name of letters, digits, '.', '_' and '-'"),
        ("${credential:../x}", "${credential:…} wants a name of letters, digits, '.', '_' and '-'"),
        ("${credential:..}", "${credential:…} wants a name of letters, digits, '.', '_' and '-'"),
        ("${env:A:-${env:TOKEN}}", "a reference holds another one: they cannot be nested"),
    ],
)
def test_a_malformed_reference_is_refused_by_its_form_alone(text: str, sentence: str) -> None:
    with pytest.raises(ReferenceError_) as caught:
        check_references(text)
    assert str(caught.value) == sentence
    assert has_reference(text)


@pytest.mark.parametrize(
    ("text", "has"),
    [("$$", False), ("$", False), ("$${env:A}", False), ("${env:A}", True), ("$$${", True), ("{}", False)],
)
def test_what_counts_as_a_reference(text: str, has: bool) -> None:
    assert has_reference(text) == has


def reference_to(kind: str, file: Path) -> tuple[str, Sources, str]:
    """Write a reference to a file, where it leads somewhere, and how a sentence names the file."""
    if kind == "file":
        return f"${{file:{file}}}", sources(), f"the file {file}"
    where = sources(CREDENTIALS_DIRECTORY=str(file.parent))
    return f"${{credential:{file.name}}}", where, f"the credential {file.name}"


@pytest.mark.parametrize("kind", ["file", "credential"])
@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param(b"secret", "secret", id="no line end"),
        pytest.param(b"secret\n", "secret", id="a line end"),
        pytest.param(b"secret\r\n", "secret", id="a line end of Windows"),
        pytest.param(b" sec ret \n\n", " sec ret \n", id="only the last line end goes"),
        pytest.param("geheïm".encode(), "geheïm", id="UTF-8"),
        pytest.param(b"${env:TOKEN}", "${env:TOKEN}", id="not expanded again"),
        pytest.param(b"x" * 65_536, "x" * 65_536, id="as large as may be"),
    ],
)
def test_a_file_is_read_as_text_without_its_last_line_end(
    tmp_path: Path, kind: str, content: bytes, text: str
) -> None:
    file = tmp_path / "slack-url"
    file.write_bytes(content)
    reference, where, _ = reference_to(kind, file)
    assert expand(reference, where) == (text, (text,))


@pytest.mark.parametrize("kind", ["file", "credential"])
@pytest.mark.parametrize(
    ("content", "trouble"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"\n", "is empty", id="only a line end"),
        pytest.param(b"\xff\xfe", "is not UTF-8 text", id="binary"),
        pytest.param(b"x" * 65_537, "is larger than 64 KiB", id="too large"),
        pytest.param(None, "cannot be read: No such file or directory", id="missing"),
    ],
)
def test_a_file_that_holds_no_secret_is_named_and_not_shown(
    tmp_path: Path, kind: str, content: bytes | None, trouble: str
) -> None:
    file = tmp_path / "slack-url"
    if content is not None:
        file.write_bytes(content)
    reference, where, name = reference_to(kind, file)
    assert refusal(reference, where) == f"{name} {trouble}"


def test_a_directory_is_no_secret(tmp_path: Path) -> None:
    assert refusal(f"${{file:{tmp_path}}}") == f"the file {tmp_path} cannot be read: Is a directory"


def test_sources_do_not_show_the_environment() -> None:
    assert "hunter2" not in repr(sources())


@given(st.text())
def test_any_text_survives_with_its_dollars_doubled(text: str) -> None:
    assert expand(text.replace("$", "$$"), Sources({})) == (text, ())


@given(st.text(alphabet="${}:-/abenvfilcrdt A\n", max_size=30))
def test_expanding_any_text_gives_text_or_a_refusal_that_its_form_or_place_explains(text: str) -> None:
    try:
        expanded, values = expand(text, Sources({"a": "x", "A": "y"}))
    except ReferenceError_ as error:
        sentence = str(error)
    else:
        check_references(text)
        assert has_reference(text) == bool(values)
        assert all(value in expanded for value in values)
        return
    assert len(sentence.splitlines()) == 1


SLACK = "https://hooks.slack.com/services/T0123/B4567/aBcDeFgHiJ"
DISCORD = "https://discord.com/api/webhooks/123456789012345678/to-ken_%41?thread_id=99887766"


def test_the_telling_parts_of_a_webhooks_url_count_as_secret() -> None:
    assert set(url_parts(SLACK)) == {SLACK, "/services/T0123/B4567/aBcDeFgHiJ", "aBcDeFgHiJ"}
    assert set(url_parts(DISCORD)) == {
        DISCORD,
        "/api/webhooks/123456789012345678/to-ken_%41?thread_id=99887766",
        "/api/webhooks/123456789012345678/to-ken_A?thread_id=99887766",
        "/api/webhooks/123456789012345678/to-ken_%41",
        "/api/webhooks/123456789012345678/to-ken_A",
        "thread_id=99887766",
        "123456789012345678",
        "to-ken_%41",
        "to-ken_A",
        "99887766",
    }
    assert "pass-word-1" in set(url_parts("https://me:pass-word-1@example.com/"))


@pytest.mark.parametrize("url", ["http://[", "whsec_x", "https://example.com", "", "https://h/a/b"])
def test_a_url_without_telling_parts_is_secret_as_a_whole(url: str) -> None:
    assert set(url_parts(url)) == {url}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("nothing to hide", "nothing to hide"),
        (f"POST {SLACK} failed", "POST *** failed"),
        ("Cannot POST /services/T0123/B4567/aBcDeFgHiJ", "Cannot POST ***"),
        ("token aBcDeFgHiJ, again aBcDeFgHiJ", "token ***, again ***"),
        ("a.b*c is meant literally, axbbc is not", "*** is meant literally, axbbc is not"),
        # too short to be told from ordinary text
        ("abc stays", "abc stays"),
        ("", ""),
    ],
)
def test_known_secrets_are_masked_wherever_they_stand(text: str, masked: str) -> None:
    masker = Masker([*url_parts(SLACK), "a.b*c", "abc", ""])
    assert masker.mask(text) == masked
    assert "services" not in repr(masker)


def test_the_longest_secret_is_masked_first() -> None:
    assert Masker(["secret", "secret-and-more"]).mask("secret-and-more secret") == "*** ***"


def test_a_masker_without_secrets_changes_nothing() -> None:
    assert Masker().mask("anything") == "anything"


alphabet = st.text(st.sampled_from('ab1/:-_%&"é '), min_size=1, max_size=12)


@given(st.lists(alphabet, max_size=6), st.lists(alphabet, max_size=4))
def test_what_a_masker_passes_over_quickly_holds_no_secret(secrets: list[str], around: list[str]) -> None:
    masker = Masker(secrets)
    pattern = masker._pattern
    for secret in [*secrets, ""]:
        for spelled in (secret, json.dumps(secret)[1:-1], quote(secret, safe=""), html.escape(secret)):
            text = spelled.join(around)
            assert masker.mask(text) == (text if pattern is None else pattern.sub("***", text))


def test_very_many_secrets_are_looked_for_all_the_same() -> None:
    masker = Masker(f"secret-number-{number:03}" for number in range(100))
    assert masker.mask("it was secret-number-042, or secret-number-x") == "it was ***, or secret-number-x"
