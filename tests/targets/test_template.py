import json
from typing import Any

import pytest

from notifier.event import Event, EventType
from notifier.targets.template import BodyError, BodyTemplate
from tests.support.tracks import completed
from tests.targets.given import COMPLETED, FAILED, MISSING, alert, news


def rendered(source: str, event: Event = COMPLETED) -> Any:
    return json.loads(BodyTemplate(source).render(event))


@pytest.mark.parametrize(
    ("expression", "event", "value"),
    [
        ("event.id", COMPLETED, COMPLETED.id),
        ("event.type", COMPLETED, "track.completed"),
        ("event.timestamp", COMPLETED, "2026-06-23T12:38:20.123Z"),
        ("event.name", COMPLETED, "Intro theme"),
        ("event.status", COMPLETED, "COMPLETED"),
        ("event.previous_status", COMPLETED, "GENERATING"),
        ("event.audio_id", COMPLETED, "user:12345-pixverse:me@example.com-music:1"),
        ("event.detected_at", COMPLETED, "2026-06-23T12:38:20.123Z"),
        ("event.track.duration", COMPLETED, 202),
        ("event.track", COMPLETED, completed()),
        ("event.data.track.model", COMPLETED, "music-2.6"),
        ("event.data.name", COMPLETED, "Intro theme"),
        ("event.status", MISSING, "MISSING"),
        ("event.track", MISSING, {}),
        ("event.data.track", MISSING, None),
        ("event.name", alert(), "target_paused"),
        ("event.status", alert(), None),
        ("event.problem", alert(), "target_paused"),
        ("event.summary", alert(), "the target studio is paused"),
        ("event.data.resolved", alert(is_resolved=True), True),
        # what an event does not have is null, however deep one looks for it
        ("event.track.url", FAILED, None),
        ("event.track.url.host.name", FAILED, None),
        ("event.nothing", COMPLETED, None),
        (
            "{'url': event.track.url, 'more': [event.nothing, event.status]}",
            FAILED,
            {"url": None, "more": [None, "FAILED"]},
        ),
        ("event.track.url or 'none'", FAILED, "none"),
        ("event.track.url | default('none')", FAILED, "none"),
    ],
)
def test_a_template_sees_the_event(expression: str, event: Event, value: object) -> None:
    assert rendered(f"{{{{ ({expression}) | tojson }}}}", event) == value


@pytest.mark.parametrize(
    ("expression", "event", "value"),
    [
        ("message.tone", COMPLETED, "good"),
        ("message.tone", FAILED, "bad"),
        ("message.tone", alert(), "warning"),
        ("message.tone", alert(is_resolved=True), "good"),
        ("message.emoji", FAILED, "❌"),
        ("message.headline", COMPLETED, "Intro theme is ready"),
        ("message.summary", COMPLETED, "✅ Intro theme is ready (3:22, music-2.6)"),
        ("message.url", COMPLETED, "https://media.pixverse.ai/pixverse/audio/music/1.mp3"),
        ("message.url", FAILED, None),
        ("message.url", news(fields=completed(url="javascript:alert(1)")), None),
        ("message.facts[0]", COMPLETED, {"label": "Length", "value": "3:22"}),
        ("message.facts | map(attribute='label') | list", FAILED, ["Code", "Model", "Credits"]),
        ("message.facts", alert(), []),
        ("message.prompt", COMPLETED, "warm pads"),
        ("message.detail", FAILED, "The backend was busy"),
        ("message.detail", alert(), "the target studio is paused"),
        ("message.note", FAILED, "Submitting the same request again often works."),
        ("message.note", COMPLETED, None),
        ("message.audio_id", COMPLETED, "user:12345-pixverse:me@example.com-music:1"),
        ("message.at", alert(), "2026-06-23T12:38:20.123Z"),
        # what has no meaning is null, as with the event
        ("message.nothing", COMPLETED, None),
        ("message.detail.first.word", COMPLETED, None),
        ("[message.url, message.nothing]", FAILED, [None, None]),
        ("message.detail or 'nothing'", COMPLETED, "nothing"),
        # cleaned of what misleads, and otherwise as it came: the markup is the template's to know
        ("message.headline", news(fields=completed(), name="\u202e<b>&\x00*"), "<b>&* is ready"),
    ],
)
def test_a_template_sees_the_event_in_words(expression: str, event: Event, value: object) -> None:
    assert rendered(f"{{{{ ({expression}) | tojson }}}}", event) == value


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("{% macro tone() %}{{ message.tone | tojson }}{% endmacro %}{{ tone() }}", "good"),
        ("{% if false %}{{ message.tone }}{% endif %}{{ message.tone | tojson }}", "good"),
        ("{% set message = 'mine' %}{{ message | tojson }}", "mine"),
        ("[{% for message in [1, 2] %}{{ message }}{{ ',' if not loop.last }}{% endfor %}]", [1, 2]),
    ],
)
def test_the_words_are_there_wherever_a_template_wants_them(source: str, value: object) -> None:
    assert rendered(source) == value


@pytest.mark.parametrize("name", ['"; x', "{{ 7 * 7 }}", "</script>", "line\nline", "☃", "\\", "%s"])
def test_tojson_writes_a_value_as_it_is(name: str) -> None:
    assert rendered('{"name": {{ event.name | tojson }}}', news(fields=completed(), name=name)) == {
        "name": name
    }


def test_a_lone_surrogate_becomes_a_replacement() -> None:
    event = news(fields=completed(), name="a\ud800b")

    body = BodyTemplate('{"typed": {{ event.name | tojson }}, "pasted": "{{ event.name }}"}').render(event)

    assert body.encode("utf-8").decode() == '{"typed": "a\ufffdb", "pasted": "a\ufffdb"}'


def test_conditions_and_loops_work() -> None:
    source = """
    {"lines": [
      {% for field in ["model", "credits"] %}
        {{ event.track[field] | tojson }}{{ "," if not loop.last }}
      {% endfor %}
    ]{% if event.type == "track.failed" %}, "why": {{ event.track.fail_reason | tojson }}{% endif %}}
    """

    assert rendered(source) == {"lines": ["music-2.6", 40]}
    assert rendered(source, FAILED) == {"lines": ["music-2.6", 40], "why": "The backend was busy"}


@pytest.mark.parametrize(
    "source",
    [
        "{{ event.name",
        "{% if %}",
        "{% for a in b %}",
        "{{ event | nosuchfilter }}",
        "{{ " + "9" * 5000 + " }}",
        "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
        "{% for a in [1] %}" * 25 + "{% endfor %}" * 25,
    ],
)
def test_what_does_not_compile_is_a_mistake_in_a_sentence(source: str) -> None:
    with pytest.raises(BodyError) as error:
        BodyTemplate(source)

    assert str(error.value).startswith("does not compile: ")
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)


def test_a_mistake_names_the_line_of_the_template() -> None:
    with pytest.raises(BodyError, match=r"does not compile: .* \(line 3 of the template\)"):
        BodyTemplate('{\n"a": 1,\n"b": {{ event.name }\n}')


@pytest.mark.parametrize(
    "source",
    [
        "",
        "  ",
        "Intro theme",
        "{{ event.name }}",
        '{"name": {{ event.name }}}',
        '{"a": 1,}',
        '{"a": NaN}',
        '{"a": [Infinity, -Infinity]}',
        '{"length": {{ event.track.nothing }}}',
    ],
)
def test_what_is_no_json_is_refused(source: str) -> None:
    with pytest.raises(BodyError, match=r"^renders no JSON for a track.completed event: "):
        BodyTemplate(source).render(COMPLETED)


@pytest.mark.parametrize(
    "source",
    [
        "{{ event.track.update({'name': 'x'}) }}",
        "{{ event.data.clear() }}",
        "{{ message.facts.clear() }}",
        "{{ message.update({'url': 'x'}) }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() | tojson }}",
        "{{ event.name.__class__.__init__.__globals__ | tojson }}",
        "{{ '{0.__class__.__init__.__globals__}'.format(event.name) | tojson }}",
        "{{ range(100001) | list | tojson }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os.getcwd() | tojson }}",
        "{{ self.__init__.__globals__ | tojson }}",
        "{{ lipsum.__globals__ | tojson }}",
        "{{ cycler.__init__.__globals__.os | tojson }}",
    ],
)
def test_a_template_gets_nowhere_but_to_the_event(source: str) -> None:
    template = BodyTemplate(source)
    try:
        body = template.render(COMPLETED)
    except BodyError:
        return

    assert json.loads(body) in {None, ""}


def test_rendering_changes_nothing_for_the_next_template() -> None:
    event = news(fields=completed())
    source = "{% set _ = event.track.items() | list %}{{ event.track | tojson }}"

    assert rendered(source, event) == rendered(source, event) == completed()


def test_a_body_without_end_is_refused() -> None:
    with pytest.raises(
        BodyError, match=r"^renders more than 1000000 characters for a track.completed event$"
    ):
        BodyTemplate('"{% for i in range(100000) %}xxxxxxxxxxxx{% endfor %}"').render(COMPLETED)


@pytest.mark.parametrize(
    ("event", "kind"),
    [(COMPLETED, EventType.COMPLETED), (alert(), EventType.ALERT), (MISSING, EventType.MISSING)],
)
def test_a_failure_says_on_which_event(event: Event, kind: EventType) -> None:
    with pytest.raises(BodyError, match=f"^fails on a {kind} event: "):
        BodyTemplate("{{ 1 / 0 }}").render(event)


def test_templates_of_the_same_source_are_equal() -> None:
    assert BodyTemplate("1") == BodyTemplate("1")
    assert hash(BodyTemplate("1")) == hash(BodyTemplate("1"))
    assert BodyTemplate("1") != BodyTemplate("2")
