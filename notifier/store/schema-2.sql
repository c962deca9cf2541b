-- Version 2: what the other side has asked for (`told_until`) is kept apart from our own back-off (`until` is
-- the later of both), so that a person can cut the one short and not the other.
ALTER TABLE gate ADD COLUMN told_until TEXT;
UPDATE gate SET told_until = until WHERE was_told = 1;
ALTER TABLE gate DROP COLUMN was_told;
