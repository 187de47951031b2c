-- Step 1. The program runs none of this by itself: Store::migrate does, or a DBA. A role that only works on it needs
-- no more than
--   GRANT USAGE ON SCHEMA civic_messaging TO the_role;
--   GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA civic_messaging TO the_role;

CREATE SCHEMA IF NOT EXISTS civic_messaging;

-- The steps that were run.
CREATE TABLE civic_messaging.migration (
    step INTEGER PRIMARY KEY,
    at TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- Times are milliseconds since 1970, by the clock of the program.
CREATE TABLE civic_messaging.message (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    line TEXT NOT NULL,
    key TEXT NOT NULL,
    recipient TEXT NOT NULL,
    -- A hash: it is locked while a message of the conversation is claimed, and finds the others of it.
    conversation BIGINT NOT NULL
        GENERATED ALWAYS AS (hashtextextended(line || chr(10) || recipient, 0)) STORED,
    body TEXT NOT NULL,
    digest TEXT NOT NULL,
    priority SMALLINT NOT NULL,
    state TEXT NOT NULL,
    due BIGINT,
    lease BIGINT,
    fence BIGINT NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    lookups INTEGER NOT NULL DEFAULT 0,
    delivery TEXT,
    reason TEXT,
    queued BIGINT NOT NULL,
    -- When the backup was made that it comes from.
    restored BIGINT,
    settled BIGINT,
    UNIQUE (line, key)
);
CREATE INDEX message_due ON civic_messaging.message (priority, due, id) WHERE state IN ('queued', 'deferred');
CREATE INDEX message_open ON civic_messaging.message (conversation, id)
    WHERE state IN ('queued', 'deferred', 'claimed', 'sending');
CREATE INDEX message_held ON civic_messaging.message (lease) WHERE state IN ('claimed', 'sending');
CREATE INDEX message_doubtful ON civic_messaging.message (due) WHERE state = 'unknown';
CREATE INDEX message_key ON civic_messaging.message (key);

CREATE TABLE civic_messaging.attempt (
    message BIGINT NOT NULL,
    n INTEGER NOT NULL,
    gateway TEXT NOT NULL,
    account TEXT NOT NULL,
    begun BIGINT NOT NULL,
    ended BIGINT,
    outcome TEXT,
    kind TEXT,
    code TEXT,
    PRIMARY KEY (message, n)
);

-- The gateway's ids of a message: several where it went in parts.
CREATE TABLE civic_messaging.part (
    gateway TEXT NOT NULL,
    id TEXT NOT NULL,
    message BIGINT NOT NULL,
    PRIMARY KEY (gateway, id)
);
CREATE INDEX part_message ON civic_messaging.part (message);

-- What a gateway told of a message before we had written down its id.
CREATE TABLE civic_messaging.early (
    n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway TEXT NOT NULL,
    account TEXT NOT NULL,
    id TEXT,
    key TEXT,
    delivery TEXT NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX early_id ON civic_messaging.early (gateway, id);
CREATE INDEX early_key ON civic_messaging.early (key);

CREATE TABLE civic_messaging.event (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    line TEXT,
    -- A hash: it is kept, and what it is of need not be.
    dedupe TEXT UNIQUE,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    taken_in BIGINT NOT NULL,
    lease BIGINT,
    acked BIGINT
);
CREATE INDEX event_open ON civic_messaging.event (id) WHERE acked IS NULL;
CREATE INDEX event_open_line ON civic_messaging.event (line, id) WHERE acked IS NULL;

CREATE TABLE civic_messaging.cursor (
    channel TEXT PRIMARY KEY,
    place TEXT NOT NULL
);
