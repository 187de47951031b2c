CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    line TEXT NOT NULL,
    key TEXT NOT NULL,
    recipient TEXT NOT NULL,
    body TEXT NOT NULL,
    digest TEXT NOT NULL,
    priority INTEGER NOT NULL,
    -- The queue that it waits in: its line, and how its recipient is reached.
    lane TEXT NOT NULL,
    state TEXT NOT NULL,
    -- It waits for its time outside the order of its conversation, and holds nobody up.
    planned INTEGER NOT NULL DEFAULT 0,
    -- It is the next of its conversation.
    head INTEGER NOT NULL DEFAULT 0,
    due INTEGER,
    -- When it is too late for it.
    not_after INTEGER,
    -- How long it waits until then, in milliseconds: none where a caller or a policy named the time.
    wait INTEGER,
    -- Until when the worker has that is sending it.
    lease INTEGER,
    fence INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    -- How many of them there were when a person had it sent again.
    earlier INTEGER NOT NULL DEFAULT 0,
    lookups INTEGER NOT NULL DEFAULT 0,
    delivery TEXT,
    reason TEXT,
    queued INTEGER NOT NULL,
    -- When the backup was made that it comes from.
    restored INTEGER,
    settled INTEGER,
    -- When its retention was over, and it lost all but what counts.
    removed INTEGER,
    -- Its tag, once its content was removed.
    tag TEXT,
    -- What goes instead of it, and when, unless it is delivered by then.
    fallback TEXT,
    fallback_due INTEGER,
    fallback_recipient TEXT,
    -- The message that it goes instead of.
    instead_of INTEGER,
    UNIQUE (key, line)
) STRICT;
-- By flags and times, and not by the state: so they are left alone where that alone changes.
CREATE INDEX message_head ON message (lane, priority, due, id) WHERE head;
CREATE INDEX message_planned ON message (priority, due, id) WHERE planned;
-- The order of each conversation.
CREATE INDEX message_open ON message (line, recipient, planned, priority, id) WHERE settled IS NULL;
CREATE INDEX message_held ON message (line, recipient) WHERE lease IS NOT NULL;
CREATE INDEX message_expiring ON message (not_after)
    WHERE not_after IS NOT NULL AND state IN ('queued', 'deferred');
CREATE INDEX message_doubtful ON message (due) WHERE state = 'unknown';
CREATE UNIQUE INDEX message_instead_of ON message (instead_of) WHERE instead_of IS NOT NULL;
CREATE INDEX message_person ON message (line, recipient, queued, id);
CREATE INDEX message_fallback ON message (fallback_due) WHERE fallback_due IS NOT NULL;
CREATE INDEX message_falling ON message (line, recipient) WHERE fallback_due IS NOT NULL;
CREATE INDEX message_fallback_person ON message (line, fallback_recipient) WHERE fallback_due IS NOT NULL;

-- What is listed and counted by its state: what is settled, and what may have gone.
CREATE INDEX message_settled ON message (line, state, id, settled) WHERE settled IS NOT NULL;
CREATE INDEX message_unknown ON message (line, id) WHERE state = 'unknown';
-- What loses its content some day, and has been settled for how long.
CREATE INDEX message_kept ON message (line, settled)
    WHERE settled IS NOT NULL AND removed IS NULL AND state <> 'parked';

CREATE TABLE attempt (
    message INTEGER NOT NULL,
    n INTEGER NOT NULL,
    gateway TEXT NOT NULL,
    account TEXT NOT NULL,
    begun INTEGER NOT NULL,
    -- What the gateway got in place of the key, where it takes none so long.
    reference TEXT,
    ended INTEGER,
    outcome TEXT,
    kind TEXT,
    code TEXT,
    -- It failed for now, and may go another time.
    passing INTEGER NOT NULL DEFAULT 0,
    -- It may have gone, for a reason with which no other gateway is asked.
    bound INTEGER NOT NULL DEFAULT 0,
    segments INTEGER,
    -- What the gateway says it costs: millionths of the currency.
    price INTEGER,
    currency TEXT,
    PRIMARY KEY (message, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempt_reference ON attempt (reference) WHERE reference IS NOT NULL;

-- The files that a message sends, or its fallback.
CREATE TABLE message_file (
    sha256 TEXT NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (sha256, message)
) STRICT, WITHOUT ROWID;
CREATE INDEX message_file_message ON message_file (message);

-- What the policy said of a message when it was not yes.
CREATE TABLE decision (
    message INTEGER NOT NULL,
    at INTEGER NOT NULL,
    decision TEXT NOT NULL,
    rule TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE INDEX decision_message ON decision (message);

-- The gateway's ids of a message: several where it went in parts.
CREATE TABLE part (
    gateway TEXT NOT NULL,
    account TEXT NOT NULL,
    id TEXT NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (gateway, account, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX part_message ON part (message);

-- What a gateway reported of a message before we had written down its id.
CREATE TABLE early (
    gateway TEXT NOT NULL,
    account TEXT NOT NULL,
    id TEXT,
    key TEXT,
    delivery TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX early_id ON early (gateway, account, id);
CREATE INDEX early_key ON early (key);

CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    line TEXT,
    -- A hash: it is kept, and what it is of need not be.
    dedupe TEXT,
    kind TEXT NOT NULL,
    -- Whose message it is, where it is one.
    person TEXT,
    body TEXT NOT NULL,
    taken_in INTEGER NOT NULL,
    lease INTEGER,
    -- How long it waits until then, in milliseconds, where it failed: else it is a lease.
    wait INTEGER,
    -- How often it was delivered.
    attempts INTEGER NOT NULL DEFAULT 0,
    -- It failed, and the later ones of its person wait.
    nacked INTEGER NOT NULL DEFAULT 0,
    -- When it was given up on: only a person hands it out again.
    parked INTEGER,
    acked INTEGER,
    -- When its retention was over, and it lost all but what counts.
    removed INTEGER
) STRICT;
CREATE UNIQUE INDEX event_dedupe ON event (dedupe) WHERE dedupe IS NOT NULL;
CREATE INDEX event_open ON event (id) WHERE acked IS NULL AND parked IS NULL;
CREATE INDEX event_open_line ON event (line, id) WHERE acked IS NULL AND parked IS NULL;
CREATE INDEX event_parked ON event (line, id) WHERE acked IS NULL AND parked IS NOT NULL;
CREATE INDEX event_failing ON event (line, person, id)
    WHERE acked IS NULL AND parked IS NULL AND nacked;
CREATE INDEX event_person ON event (line, person, taken_in, id) WHERE person IS NOT NULL;

CREATE INDEX event_kept ON event (line, taken_in) WHERE acked IS NOT NULL AND removed IS NULL;

-- How far a person has received and read what an account sent them: all of which the sends began by then.
CREATE TABLE conversation (
    line TEXT NOT NULL,
    person TEXT NOT NULL,
    gateway TEXT NOT NULL,
    account TEXT NOT NULL,
    delivered_up_to INTEGER,
    read_up_to INTEGER,
    -- When that was last heard.
    heard INTEGER NOT NULL,
    PRIMARY KEY (line, person, gateway, account)
) STRICT, WITHOUT ROWID;
CREATE INDEX conversation_heard ON conversation (line, heard);

-- The files of a resident's message: waiting, fetching, held or failed; unwanted once the message lost its content, and
-- removing until the place where files are kept has forgotten it.
CREATE TABLE file (
    event INTEGER NOT NULL,
    n INTEGER NOT NULL,
    state TEXT NOT NULL,
    -- When something is to be done about it.
    due INTEGER,
    -- A claim counts, and is known by its number.
    tries INTEGER NOT NULL DEFAULT 0,
    sha256 TEXT,
    len INTEGER,
    mime TEXT,
    reason TEXT,
    PRIMARY KEY (event, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX file_due ON file (due) WHERE due IS NOT NULL;
CREATE INDEX file_sha256 ON file (sha256) WHERE sha256 IS NOT NULL;

-- Where a person is reached now who was reached elsewhere before, as the gateway says.
CREATE TABLE link (
    line TEXT NOT NULL,
    previous TEXT NOT NULL,
    current TEXT NOT NULL,
    address TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (line, previous)
) STRICT, WITHOUT ROWID;
CREATE INDEX link_current ON link (line, current);

-- Who answers for what, as the worker that started last said.
CREATE TABLE line (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    controller TEXT,
    languages TEXT NOT NULL,
    -- How long what was written is kept, in milliseconds.
    retention INTEGER,
    -- When a worker of it was last at work.
    attended INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- When the next message of an account may go, in microseconds since 1970: later than now after a gateway asked for a pause.
CREATE TABLE account (
    id TEXT PRIMARY KEY,
    next_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The latest time that a worker has seen: the clock may be set back.
CREATE TABLE clock (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seen INTEGER NOT NULL
) STRICT;

CREATE TABLE cursor (
    channel TEXT PRIMARY KEY,
    place TEXT NOT NULL
) STRICT, WITHOUT ROWID;
