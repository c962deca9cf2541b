-- The state file, version 1. All moments are RFC 3339 in UTC with milliseconds, so that they sort as text.
-- Later versions are further steps in notifier/store/database.py; this one never changes.

-- Every track that was ever read, as last seen. It outlives its watch so that an entry which returns is not
-- told of again; `unwatched_since` is null while the watchlist names it.
CREATE TABLE track (
    audio_id TEXT PRIMARY KEY,
    name TEXT,
    status TEXT NOT NULL,
    is_final INTEGER NOT NULL CHECK (is_final IN (0, 1)),
    first_seen TEXT NOT NULL,
    changed_at TEXT NOT NULL,
    stalled_at TEXT,
    as_returned TEXT,
    unwatched_since TEXT
) STRICT, WITHOUT ROWID;

-- Facts worth telling, kept as they were told: `data` is the data member of the public JSON.
CREATE TABLE event (
    id TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    audio_id TEXT,
    name TEXT NOT NULL,
    detected_at TEXT NOT NULL,
    data TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX event_of_track ON event (audio_id);

-- The outbox: one event owed to one target. `counts_from` is when give_up_after starts to count; it moves
-- when a person asks for a retry and by as long as the target was paused.
CREATE TABLE delivery (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL REFERENCES event (id) ON DELETE CASCADE,
    target TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'dead')),
    attempt_count INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL,
    counts_from TEXT NOT NULL,
    settled_at TEXT,
    last_status INTEGER,
    last_error TEXT,
    UNIQUE (event_id, target)
) STRICT;

CREATE INDEX delivery_by_target ON delivery (target, state, id);

-- What each HTTP try came to. The answer is the other side's, bounded, cleaned and without secrets.
CREATE TABLE attempt (
    id INTEGER PRIMARY KEY,
    delivery_id INTEGER NOT NULL REFERENCES delivery (id) ON DELETE CASCADE,
    at TEXT NOT NULL,
    status INTEGER,
    answer TEXT NOT NULL,
    outcome TEXT NOT NULL
) STRICT;

CREATE INDEX attempt_of_delivery ON attempt (delivery_id);

-- How the gate of each remote end stood when it last changed. `was_told` says that the other side named the
-- time; `fingerprint` is a salted hash of the URL, so that a changed one reopens a paused target.
CREATE TABLE gate (
    name TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('open', 'waiting', 'paused')),
    reason TEXT,
    since TEXT NOT NULL,
    until TEXT,
    was_told INTEGER NOT NULL DEFAULT 0 CHECK (was_told IN (0, 1)),
    failures INTEGER NOT NULL DEFAULT 0,
    fingerprint TEXT
) STRICT, WITHOUT ROWID;

-- Problems that alerts were told of and that are not over.
CREATE TABLE problem (
    problem TEXT NOT NULL,
    subject TEXT NOT NULL,
    summary TEXT NOT NULL,
    since TEXT NOT NULL,
    PRIMARY KEY (problem, subject)
) STRICT, WITHOUT ROWID;

-- Single facts about the file itself, such as the salt of the fingerprints.
CREATE TABLE fact (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
