import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from pydantic import ValidationError
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from notifier import __version__
from notifier.delivery import Delivered, Retry
from notifier.event import Event, EventType, public_json
from notifier.targets import Request, Target
from tests.support import hostile
from tests.support.hostile import NOW
from tests.support.tracks import completed
from tests.targets.given import COMPLETED, EVENTS, FAILED, MISSING, alert, answer, make, news, payload_of

URL = "https://example.com/hooks/music"
OLD = "whsec_" + b64encode(b"old" * 8).decode()
NEW = "whsec_" + b64encode(b"new" * 20).decode()
PAGE = """{"text": {{ (event.name ~ " is " ~ event.status) | tojson }}}"""


def webhook(**keys: Any) -> Target:
    return make("webhook", url=URL, **keys)


def sent(event: Event = COMPLETED, now: datetime = NOW, **keys: Any) -> Request:
    return webhook(**keys).render([event], now=now)


def verified(request: Request, secret: str) -> Any:
    """Let the reference library verify a request and decode it."""
    return Verifier(secret).verify(request.body, dict(request.headers))


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_the_body_is_the_public_json_of_the_event(event: Event) -> None:
    assert sent(event).body.decode() == public_json(event)


def test_a_webhook_without_settings_gets_the_documented_headers_and_no_signature() -> None:
    request = sent()

    assert request.method == "POST"
    assert request.url.reveal() == URL
    assert request.headers == {
        "Content-Type": "application/json",
        "User-Agent": f"pixverse-notifier/{__version__}",
        "webhook-id": COMPLETED.id,
        "webhook-timestamp": str(int(NOW.timestamp())),
    }


def test_the_reference_library_accepts_the_signature() -> None:
    request = sent(now=datetime.now(UTC), secret=NEW)

    assert verified(request, NEW) == json.loads(public_json(COMPLETED))


def test_while_rotating_both_secrets_verify() -> None:
    request = sent(now=datetime.now(UTC), secret=[NEW, OLD])

    assert verified(request, OLD) == verified(request, NEW) == json.loads(public_json(COMPLETED))
    assert [one[:3] for one in request.headers["webhook-signature"].split(" ")] == ["v1,", "v1,"]


@pytest.mark.parametrize("part", ["body", "webhook-id", "webhook-timestamp"])
def test_whoever_changes_what_is_signed_is_found_out(part: str) -> None:
    request = sent(now=datetime.now(UTC), secret=NEW)
    body, headers = request.body, dict(request.headers)
    match part:
        case "body":
            body = body.replace(b"Intro", b"Outro")
        case "webhook-id":
            headers[part] += "0"
        case "webhook-timestamp":
            headers[part] = str(int(headers[part]) + 1)

    with pytest.raises(WebhookVerificationError):
        Verifier(NEW).verify(body, headers)


def test_another_secret_does_not_verify() -> None:
    request = sent(now=datetime.now(UTC), secret=NEW)

    with pytest.raises(WebhookVerificationError):
        verified(request, OLD)


@given(hostile.events)
def test_whatever_an_event_holds_the_signature_verifies(event: Event) -> None:
    request = sent(event, now=datetime.now(UTC), secret=NEW)

    assert verified(request, NEW) == payload_of(request)


def test_the_published_example_is_signed_as_published() -> None:
    event = Event("msg_p5jXN8AQM9LWM0D4loKWxJek", EventType.COMPLETED, NOW, COMPLETED.about)

    request = sent(
        event,
        now=datetime.fromtimestamp(1614265330, UTC),
        secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        body='{"test": 2432232314}',
    )

    assert request.body == b'{"test": 2432232314}'
    assert request.headers["webhook-timestamp"] == "1614265330"
    assert request.headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_later_attempt_has_a_fresh_timestamp_and_signature_but_the_same_id_and_body() -> None:
    first = sent(secret=NEW)

    later = sent(now=NOW + timedelta(hours=6), secret=NEW)

    assert (later.headers["webhook-id"], later.body) == (first.headers["webhook-id"], first.body)
    stamps = [int(request.headers["webhook-timestamp"]) for request in (first, later)]
    assert stamps[1] - stamps[0] == 6 * 3600
    assert later.headers["webhook-signature"] != first.headers["webhook-signature"]


def test_the_id_is_the_same_for_every_webhook_target() -> None:
    others = [make("webhook", url=f"https://{host}.example/hook") for host in ("a", "b")]

    assert {one.render([COMPLETED], now=NOW).headers["webhook-id"] for one in others} == {COMPLETED.id}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_the_method_is_the_owners_choice(method: str) -> None:
    assert sent(method=method).method == method


def test_further_headers_are_sent_and_ours_can_be_replaced_in_any_case() -> None:
    keys = {"X-Team": "music", "content-type": "application/cloudevents+json", "USER-AGENT": "our bot"}

    headers = sent(headers=keys).headers

    assert headers == {
        "X-Team": "music",
        "content-type": "application/cloudevents+json",
        "USER-AGENT": "our bot",
        "webhook-id": COMPLETED.id,
        "webhook-timestamp": str(int(NOW.timestamp())),
    }


def test_events_are_never_merged() -> None:
    request = webhook().render([COMPLETED, FAILED], now=NOW)

    assert request.event_count == 1
    assert payload_of(request)["type"] == "track.completed"
    assert webhook().most_events == 1


def test_requests_may_be_under_way_together() -> None:
    assert webhook().lanes == 4
    assert webhook(concurrency=9).lanes == 9


def test_a_template_writes_the_body_of_every_event_of_a_track() -> None:
    bodies = [payload_of(sent(event, body=PAGE)) for event in (COMPLETED, FAILED, MISSING)]

    assert bodies == [
        {"text": "Intro theme is COMPLETED"},
        {"text": "Intro theme is FAILED"},
        {"text": "Intro theme is MISSING"},
    ]


def test_what_a_template_writes_is_what_is_signed() -> None:
    request = sent(now=datetime.now(UTC), secret=NEW, body=PAGE)

    assert verified(request, NEW) == {"text": "Intro theme is COMPLETED"}


def test_an_event_that_a_template_cannot_tell_is_told_in_the_standard_form_with_a_warning() -> None:
    text = '{"seconds": {{ event.track.duration or 0 }}, "model": "{{ event.track.model }}"}'
    quoted = news(fields=completed(model='"; drop'))

    request = sent(quoted, body=text)

    assert request.body.decode() == public_json(quoted)
    assert request.warning is not None
    assert "the template renders no JSON for a track.completed event" in request.warning
    assert "drop" not in request.warning


def test_a_template_that_cannot_tell_alerts_does_not_lose_them() -> None:
    request = sent(alert(), body='{"length": {{ 60 / event.status | length }}}')

    assert payload_of(request)["type"] == "notifier.alert"
    assert request.warning is not None


def test_there_is_no_plainer_form_to_fall_back_to() -> None:
    plain = webhook(body=PAGE).render([COMPLETED], now=NOW, is_plain=True)

    assert payload_of(plain) == {"text": "Intro theme is COMPLETED"}


@pytest.mark.parametrize(
    ("body", "header", "wait"),
    [
        ('{"retry_after": 7}', None, 7),
        ('{"retry_after": 0.5}', None, 0.5),
        ('{"retry_after": "7"}', None, 7),
        ('{"ok": false, "error_code": 429, "parameters": {"retry_after": 14}}', None, 14),
        # the longest hint wins, wherever it stands
        ('{"retry_after": 7}', "30", 30),
        ('{"retry_after": 30}', "7", 30),
        ('{"retry_after": 7, "parameters": {"retry_after": 14}}', "3", 14),
        ('{"retry_after": 14, "parameters": {"retry_after": 7}}', "3", 14),
        ('{"retry_after": 1e9}', None, 86_400),
        # what cannot be read is no hint
        ('{"retry_after": 7', None, 60),
        ("[7]", None, 60),
        ('{"retry_after": -7}', None, 60),
        ('{"retry_after": true}', None, 60),
        ('{"retry_after": "soon"}', None, 60),
        ('{"retry_after": [7], "parameters": 7}', None, 60),
        ('{"parameters": {"retry_after": null, "migrate_to_chat_id": -100}}', None, 60),
        ('{"retry_after": NaN}', "7", 7),
        ("", "7", 7),
        ("", None, 60),
        ("<html>slow down</html>", None, 900),
    ],
)
def test_a_429_is_honoured_wherever_it_says_how_long(body: str, header: str | None, wait: float) -> None:
    headers = {"Retry-After": header} if header else {}

    outcome = webhook().classify(answer(429, body, headers), now=NOW)

    assert isinstance(outcome, Retry)
    assert outcome.after == timedelta(seconds=wait)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Delivered('HTTP 200: {"retry_after": 7}')),
        (503, Retry('HTTP 503: {"retry_after": 7}')),
    ],
)
def test_other_answers_mean_what_their_status_says(status: int, outcome: object) -> None:
    assert webhook().classify(answer(status, '{"retry_after": 7}'), now=NOW) == outcome


@given(hostile.events)
def test_a_template_that_uses_tojson_withstands_anything(event: Event) -> None:
    text = '{"name": {{ event.name | tojson }}, "all": {{ event | tojson }}}'

    request = sent(event, body=text)

    assert request.warning is None
    assert payload_of(request)["all"]["id"] == event.id


@pytest.mark.parametrize(
    "keys",
    [
        {"secret": "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
        {"secret": "whsec_"},
        {"secret": "whsec_not base64 at all!"},
        {"secret": "whsec_" + b64encode(b"x" * 23).decode()},
        {"secret": "whsec_" + b64encode(b"x" * 65).decode()},
        {"secret": [NEW, "whsec_short"]},
        {"headers": {"webhook-id": "mine"}},
        {"headers": {"Webhook-Signature": "mine"}},
        {"headers": {"Content-Length": "1"}},
        {"headers": {"host": "elsewhere.example"}},
        {"headers": {"X Team": "music"}},
        {"headers": {"X-Team": "mu\r\nX-Admin: yes"}},
        {"headers": {"X-Team": "müsic"}},
        {"method": "GET"},
        {"method": "post"},
        {"concurrency": "0"},
        {"body": "{{ event.name"},
        {"body": "{{ event.name }}"},
        {"body": '{"name": "{{ event.name }}", }'},
        {"body": "{{ event.track.url.split('/') | tojson }}"},  # a failed track has no url
        {"mention": ["here"]},
        {"url": "ftp://example.com/"},
        {"url": "example.com/hook"},
    ],
)
def test_settings_that_cannot_work_are_mistakes(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make("webhook", **{"url": URL, **keys})


@pytest.mark.parametrize("size", [24, 32, 64])
def test_secrets_of_24_to_64_bytes_are_taken(size: int) -> None:
    secret = "whsec_" + b64encode(bytes(range(size))).decode()

    assert verified(sent(now=datetime.now(UTC), secret=secret), secret)


def test_no_secret_shows() -> None:
    one = webhook(secret=[NEW, OLD], headers={"Authorization": "Bearer hushhushhush"})
    request = one.render([COMPLETED], now=NOW)

    shown = f"{one!r} {one} {one.model_dump()} {request!r} {request}"

    assert [text for text in (NEW, OLD, "hushhushhush", URL) if text in shown] == []
    assert {URL, NEW, OLD} <= set(one.secrets())


@pytest.mark.parametrize("secret", ["whsec_hushhushhush", [NEW, "whsec_hushhushhush"]])
def test_a_mistake_does_not_show_the_secret(secret: object) -> None:
    with pytest.raises(ValidationError) as error:
        webhook(secret=secret)

    assert "hush" not in str(error.value)
