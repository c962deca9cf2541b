-- Version 4: accounts whose new tracks are watched as they appear.

-- How far the list of each account on the watchlist is known, and how the last look at it went: `looked_at` lags
-- behind by a minute while there is nothing else to write down, `trouble` is null while the list can be read.
CREATE TABLE account (
    account TEXT PRIMARY KEY,
    bookmark TEXT,
    looked_at TEXT,
    trouble TEXT
) STRICT, WITHOUT ROWID;

-- Tracks that an account's list has brought. They outlive the entry, so that one which returns goes on with them.
CREATE TABLE followed (
    audio_id TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    found_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX followed_of_account ON followed (account, found_at);
