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
    -- What goes instead of it, and when, unless it is delivered by then.
    fallback TEXT,
    fallback_due BIGINT,
    -- The message that it goes instead of.
    instead_of BIGINT UNIQUE,
    UNIQUE (line, key)
);
CREATE INDEX message_due ON civic_messaging.message (priority, due, id) WHERE state IN ('queued', 'deferred');
CREATE INDEX message_open ON civic_messaging.message (conversation, id)
    WHERE state IN ('queued', 'deferred', 'claimed', 'sending');
CREATE INDEX message_held ON civic_messaging.message (lease) WHERE state IN ('claimed', 'sending');
CREATE INDEX message_doubtful ON civic_messaging.message (due) WHERE state = 'unknown';
CREATE INDEX message_key ON civic_messaging.message (key);
CREATE INDEX message_person ON civic_messaging.message (conversation, queued, id);
CREATE INDEX message_fallback ON civic_messaging.message (fallback_due) WHERE fallback_due IS NOT NULL;

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
    -- It failed for now, and may go another time.
    passing BOOLEAN NOT NULL DEFAULT false,
    segments INTEGER,
    -- What the gateway says it costs: millionths of the currency.
    price BIGINT,
    currency TEXT,
    PRIMARY KEY (message, n)
);

-- What the policy said of a message when it was not yes.
CREATE TABLE civic_messaging.decision (
    n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message BIGINT NOT NULL,
    at BIGINT NOT NULL,
    decision TEXT NOT NULL,
    rule TEXT NOT NULL,
    reason TEXT NOT NULL
);
CREATE INDEX decision_message ON civic_messaging.decision (message);

-- The gateway's ids of a message: several where it went in parts.
CREATE TABLE civic_messaging.part (
    gateway TEXT NOT NULL,
    account TEXT NOT NULL,
    id TEXT NOT NULL,
    message BIGINT NOT NULL,
    PRIMARY KEY (gateway, account, id)
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
CREATE INDEX early_id ON civic_messaging.early (gateway, account, id);
CREATE INDEX early_key ON civic_messaging.early (key);

CREATE TABLE civic_messaging.event (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    line TEXT,
    -- A hash: it is kept, and what it is of need not be.
    dedupe TEXT UNIQUE,
    kind TEXT NOT NULL,
    -- Whose message it is, where it is one.
    person TEXT,
    body TEXT NOT NULL,
    taken_in BIGINT NOT NULL,
    lease BIGINT,
    acked BIGINT
);
CREATE INDEX event_open ON civic_messaging.event (id) WHERE acked IS NULL;
CREATE INDEX event_open_line ON civic_messaging.event (line, id) WHERE acked IS NULL;
CREATE INDEX event_person ON civic_messaging.event (line, person, taken_in, id) WHERE person IS NOT NULL;

-- The files of a resident's message.
CREATE TABLE civic_messaging.file (
    event BIGINT NOT NULL,
    n INTEGER NOT NULL,
    state TEXT NOT NULL,
    due BIGINT,
    tries INTEGER NOT NULL DEFAULT 0,
    sha256 TEXT,
    len BIGINT,
    mime TEXT,
    reason TEXT,
    PRIMARY KEY (event, n)
);
CREATE INDEX file_due ON civic_messaging.file (due) WHERE due IS NOT NULL;

-- Where a person is reached now who was reached elsewhere before, as the gateway says.
CREATE TABLE civic_messaging.link (
    line TEXT NOT NULL,
    previous TEXT NOT NULL,
    current TEXT NOT NULL,
    address TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (line, previous)
);
CREATE INDEX link_current ON civic_messaging.link (line, current);

-- Who answers for what, as the program that ran last said.
CREATE TABLE civic_messaging.line (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    controller TEXT,
    languages TEXT NOT NULL,
    -- How long what was written is kept, in milliseconds.
    retention BIGINT
);

CREATE TABLE civic_messaging.cursor (
    channel TEXT PRIMARY KEY,
    place TEXT NOT NULL
);
