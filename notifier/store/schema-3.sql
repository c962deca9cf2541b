-- Version 3: how long tracks took, the latest of each model, so that the next ones are read when they are likely to end.

-- One row for each track that has ended, or was told of as stalled or missing (`is_end` 0), in the order of their
-- coming. `gain` is by how many intervals sooner than by fixed reads it was told, `on_paper` by how many it would have
-- been; `is_surprise` says that it took far longer or far less long than others. `model` is empty when none was named.
CREATE TABLE duration (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    audio_id TEXT NOT NULL UNIQUE,
    model TEXT NOT NULL,
    seconds REAL NOT NULL,
    is_end INTEGER NOT NULL CHECK (is_end IN (0, 1)),
    gain REAL,
    on_paper REAL NOT NULL,
    is_surprise INTEGER NOT NULL CHECK (is_surprise IN (0, 1))
) STRICT;

CREATE INDEX duration_of_model ON duration (model, id);
