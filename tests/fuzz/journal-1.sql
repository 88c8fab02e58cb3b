CREATE TABLE submissions (
    client          TEXT NOT NULL,
    job_id          TEXT NOT NULL,
    type            TEXT NOT NULL,
    options         TEXT NOT NULL,
    body            BLOB NOT NULL,
    standing        TEXT NOT NULL,
    ticket          TEXT,
    outcome         TEXT,
    journaled_at_ms INTEGER NOT NULL,
    changed_at_ms   INTEGER NOT NULL,
    PRIMARY KEY (client, job_id)
) WITHOUT ROWID;
CREATE INDEX open_submissions ON submissions (client, journaled_at_ms)
    WHERE standing IN ('journaled', 'confirmed', 'accepted');
PRAGMA user_version = 1;
PRAGMA application_id = 1128679985;
