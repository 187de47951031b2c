CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    line TEXT NOT NULL,
    key TEXT NOT NULL,
    recipient TEXT NOT NULL,
    body TEXT NOT NULL,
    digest TEXT NOT NULL,
    priority INTEGER NOT NULL,
    state TEXT NOT NULL,
    due INTEGER,
    lease INTEGER,
    fence INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    lookups INTEGER NOT NULL DEFAULT 0,
    delivery TEXT,
    reason TEXT,
    queued INTEGER NOT NULL,
    -- When the backup was made that it comes from.
    restored INTEGER,
    settled INTEGER,
    UNIQUE (line, key)
) STRICT;
CREATE INDEX message_due ON message (priority, due, id) WHERE state IN ('queued', 'deferred');
CREATE INDEX message_open ON message (line, recipient, id) WHERE state IN ('queued', 'deferred', 'claimed', 'sending');
CREATE INDEX message_held ON message (lease) WHERE state IN ('claimed', 'sending');
CREATE INDEX message_doubtful ON message (due) WHERE state = 'unknown';
CREATE INDEX message_key ON message (key);

CREATE TABLE attempt (
    message INTEGER NOT NULL,
    n INTEGER NOT NULL,
    gateway TEXT NOT NULL,
    account TEXT NOT NULL,
    begun INTEGER NOT NULL,
    ended INTEGER,
    outcome TEXT,
    kind TEXT,
    code TEXT,
    PRIMARY KEY (message, n)
) STRICT, WITHOUT ROWID;

-- The gateway's ids of a message: several where it went in parts.
CREATE TABLE part (
    gateway TEXT NOT NULL,
    id TEXT NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (gateway, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX part_message ON part (message);

-- What a gateway told of a message before we had written down its id.
CREATE TABLE early (
    gateway TEXT NOT NULL,
    account TEXT NOT NULL,
    id TEXT,
    key TEXT,
    delivery TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX early_id ON early (gateway, id);
CREATE INDEX early_key ON early (key);

CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    line TEXT,
    -- A hash: it is kept, and what it is of need not be.
    dedupe TEXT UNIQUE,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    taken_in INTEGER NOT NULL,
    lease INTEGER,
    acked INTEGER
) STRICT;
CREATE INDEX event_open ON event (line, id) WHERE acked IS NULL;

CREATE TABLE cursor (
    channel TEXT PRIMARY KEY,
    place TEXT NOT NULL
) STRICT, WITHOUT ROWID;
