import pytest

from notifier.event import EventType, TrackNews
from notifier.sample import AUDIO_ID, sample_event


@pytest.mark.parametrize(
    ("is_completed", "status", "kind"),
    [(True, "COMPLETED", EventType.COMPLETED), (False, "FAILED", EventType.FAILED)],
)
def test_a_sample_is_a_track_as_the_vendor_documents_it(
    is_completed: bool, status: str, kind: EventType
) -> None:
    event = sample_event(is_completed=is_completed)

    assert isinstance(event.about, TrackNews)
    assert (event.type, event.about.status, event.audio_id) == (kind, status, AUDIO_ID)
    assert event.about.track is not None
    assert event.about.track.is_final
    assert event.about.track.fields["audio_id"] == AUDIO_ID
    assert ("url" in event.about.track.fields) is is_completed
    assert ("fail_reason" in event.about.track.fields) is not is_completed


def test_a_test_message_is_the_sample_under_a_type_and_an_id_of_its_own() -> None:
    first, second = (sample_event(is_completed=True, event_type=EventType.TEST) for _ in range(2))

    assert first.type is EventType.TEST
    assert first.about == sample_event(is_completed=True).about
    assert first.id != second.id
