-- Version 5: how much the API is asked.

-- Requests by what they ask for, and how many reads of each track at its fixed interval would have been made
-- meanwhile, by the hour in which they were made (UTC); kept for 30 days.
CREATE TABLE usage (
    hour TEXT PRIMARY KEY,
    track INTEGER NOT NULL,
    list INTEGER NOT NULL,
    fixed REAL NOT NULL
) STRICT, WITHOUT ROWID;
