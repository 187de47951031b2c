CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    line TEXT NOT NULL,
    key TEXT NOT NULL,
    recipient TEXT NOT NULL,
    body TEXT NOT NULL,
    digest TEXT NOT NULL,
    priority INTEGER NOT NULL,
    -- The queue: the line and the kind of the recipient's address, and the account if only that may send it next.
    lane TEXT NOT NULL,
    state TEXT NOT NULL,
    -- Waits for its time outside the order of its conversation, and holds back none.
    planned INTEGER NOT NULL DEFAULT 0,
    -- The next message of its conversation.
    head INTEGER NOT NULL DEFAULT 0,
    due INTEGER,
    -- The time after which it is not sent.
    not_after INTEGER,
    -- The length of the wait until then, in milliseconds: NULL if a caller or a policy set the time.
    wait INTEGER,
    -- The lease of the worker that is sending it.
    lease INTEGER,
    fence INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    -- The number of attempts before a person last resent it.
    earlier INTEGER NOT NULL DEFAULT 0,
    lookups INTEGER NOT NULL DEFAULT 0,
    delivery TEXT,
    reason TEXT,
    queued INTEGER NOT NULL,
    -- The time of the backup that it comes from.
    restored INTEGER,
    settled INTEGER,
    -- When its retention ended, and its content was removed.
    removed INTEGER,
    -- The tag under which it is counted.
    tag TEXT,
    -- The fallback, and when it is due unless the message is delivered.
    fallback TEXT,
    fallback_due INTEGER,
    fallback_recipient TEXT,
    -- The message for which this is the fallback.
    instead_of INTEGER,
    UNIQUE (key, line)
) STRICT;
-- By flags and times, not by state: a change of the state alone does not write these indexes.
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

-- Listed and counted by state: settled messages, and unknown outcomes.
CREATE INDEX message_settled ON message (line, state, id, settled) WHERE settled IS NOT NULL;
CREATE INDEX message_unknown ON message (line, id) WHERE state = 'unknown';
-- Listed by tag, and by time.
CREATE INDEX message_tag_open ON message (line, tag, id) WHERE settled IS NULL AND tag IS NOT NULL;
CREATE INDEX message_tag_settled ON message (line, tag, state, id, settled)
    WHERE settled IS NOT NULL AND tag IS NOT NULL;
-- By an expression, so that it serves no other query in place of its own index.
CREATE INDEX message_queued ON message (line, queued + 0, id);
-- For retention: messages with content, by the time they were settled.
CREATE INDEX message_kept ON message (line, settled)
    WHERE settled IS NOT NULL AND removed IS NULL AND state <> 'parked';

CREATE TABLE attempt (
    message INTEGER NOT NULL,
    n INTEGER NOT NULL,
    gateway TEXT NOT NULL,
    account TEXT NOT NULL,
    begun INTEGER NOT NULL,
    -- The reference sent in place of a key that is too long for the gateway.
    reference TEXT,
    -- The time until which the account makes no second message of a resend.
    repeatable_until INTEGER,
    ended INTEGER,
    outcome TEXT,
    kind TEXT,
    code TEXT,
    -- The failure was transient.
    passing INTEGER NOT NULL DEFAULT 0,
    -- It must not fail over to another account.
    bound INTEGER NOT NULL DEFAULT 0,
    segments INTEGER,
    -- The price from the gateway, in millionths of the currency: of a credit, if there is none.
    price INTEGER,
    currency TEXT,
    -- What it took from budgets, as JSON.
    charges TEXT,
    PRIMARY KEY (message, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempt_reference ON attempt (reference) WHERE reference IS NOT NULL;

-- The files that a message or its fallback sends.
CREATE TABLE message_file (
    sha256 TEXT NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (sha256, message)
) STRICT, WITHOUT ROWID;
CREATE INDEX message_file_message ON message_file (message);

-- Decisions of the policy other than to allow.
CREATE TABLE decision (
    message INTEGER NOT NULL,
    at INTEGER NOT NULL,
    decision TEXT NOT NULL,
    rule TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE INDEX decision_message ON decision (message);

-- The gateway's ids of a message: several if it was sent in parts.
CREATE TABLE part (
    gateway TEXT NOT NULL,
    account TEXT NOT NULL,
    id TEXT NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (gateway, account, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX part_message ON part (message);

-- Deliveries received before the id of their message was stored.
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
    -- A hash, kept after the content was removed.
    dedupe TEXT,
    kind TEXT NOT NULL,
    -- The person, if the event is a message.
    person TEXT,
    -- It waits for an answer.
    waits INTEGER NOT NULL DEFAULT 0,
    body TEXT NOT NULL,
    taken_in INTEGER NOT NULL,
    lease INTEGER,
    -- The length of the wait until then, in milliseconds, if the event failed; otherwise it is a lease.
    wait INTEGER,
    -- The number of deliveries.
    attempts INTEGER NOT NULL DEFAULT 0,
    -- It failed, and later events of its person wait.
    nacked INTEGER NOT NULL DEFAULT 0,
    -- It waits behind such an event, and is not searched.
    held INTEGER NOT NULL DEFAULT 0,
    -- When it was parked: only a person has it delivered again.
    parked INTEGER,
    acked INTEGER,
    -- When its retention ended, and its content was removed.
    removed INTEGER
) STRICT;
CREATE UNIQUE INDEX event_dedupe ON event (dedupe) WHERE dedupe IS NOT NULL;
CREATE INDEX event_open ON event (id) WHERE acked IS NULL AND parked IS NULL AND NOT held;
CREATE INDEX event_open_line ON event (line, id) WHERE acked IS NULL AND parked IS NULL AND NOT held;
CREATE INDEX event_parked ON event (line, id) WHERE acked IS NULL AND parked IS NOT NULL;
CREATE INDEX event_waiting ON event (line, person, id, nacked, held)
    WHERE acked IS NULL AND parked IS NULL AND (nacked OR held);
CREATE INDEX event_person ON event (line, person, taken_in, id) WHERE person IS NOT NULL;

CREATE INDEX event_kept ON event (line, taken_in) WHERE acked IS NOT NULL AND removed IS NULL;

-- The conversations in which a person wrote, by the current name of the person.
CREATE TABLE conversation_state (
    line TEXT NOT NULL,
    person TEXT NOT NULL,
    address TEXT NOT NULL,
    -- When the person wrote last, or got the last answer.
    last INTEGER NOT NULL,
    -- When the last answer was enqueued.
    answered INTEGER NOT NULL,
    -- Up to when messages are read.
    seen INTEGER NOT NULL,
    -- The oldest message that waits for an answer.
    waiting INTEGER,
    unread INTEGER NOT NULL,
    PRIMARY KEY (line, person)
) STRICT, WITHOUT ROWID;
CREATE INDEX conversation_state_last ON conversation_state (line, last, person);
CREATE INDEX conversation_state_waiting ON conversation_state (line, waiting, person) WHERE waiting IS NOT NULL;
CREATE INDEX conversation_state_unread ON conversation_state (line, last, person) WHERE unread > 0;

-- How far a person has received and read what an account sent: messages whose send began by then.
CREATE TABLE conversation (
    line TEXT NOT NULL,
    person TEXT NOT NULL,
    gateway TEXT NOT NULL,
    account TEXT NOT NULL,
    delivered_up_to INTEGER,
    read_up_to INTEGER,
    -- When this was last reported.
    heard INTEGER NOT NULL,
    PRIMARY KEY (line, person, gateway, account)
) STRICT, WITHOUT ROWID;
CREATE INDEX conversation_heard ON conversation (line, heard);

-- The files of a resident's message: waiting, fetching, held or failed; unwanted once the message lost its content, and
-- removing until the media store has removed it.
CREATE TABLE file (
    event INTEGER NOT NULL,
    n INTEGER NOT NULL,
    state TEXT NOT NULL,
    -- When the next step is due.
    due INTEGER,
    -- The number of claims; the last one is the fencing token.
    tries INTEGER NOT NULL DEFAULT 0,
    sha256 TEXT,
    len INTEGER,
    mime TEXT,
    reason TEXT,
    PRIMARY KEY (event, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX file_due ON file (due) WHERE due IS NOT NULL;
CREATE INDEX file_sha256 ON file (sha256) WHERE sha256 IS NOT NULL;

-- A person's current address in place of a former one, as reported by the gateway.
CREATE TABLE link (
    line TEXT NOT NULL,
    previous TEXT NOT NULL,
    current TEXT NOT NULL,
    address TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (line, previous)
) STRICT, WITHOUT ROWID;
CREATE INDEX link_previous ON link (previous);
CREATE INDEX link_current ON link (current, line);

-- The addresses of a person, each with its kind, as officers link them.
CREATE TABLE person_link (
    id INTEGER PRIMARY KEY,
    line TEXT NOT NULL,
    one TEXT NOT NULL,
    one_name TEXT NOT NULL,
    other TEXT NOT NULL,
    other_name TEXT NOT NULL,
    officer TEXT NOT NULL,
    reason TEXT NOT NULL,
    at INTEGER NOT NULL,
    -- When the link ended, and the officer who decided so.
    ended INTEGER,
    ended_by TEXT,
    ended_reason TEXT
) STRICT;
CREATE INDEX person_link_one ON person_link (one_name);
CREATE INDEX person_link_other ON person_link (other_name);
CREATE INDEX person_link_line ON person_link (line, id) WHERE ended IS NULL;

-- What was taken from the budgets of each period.
CREATE TABLE budget (
    counter TEXT PRIMARY KEY,
    units INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Recent messages, for the limits: those to an address, and the phone numbers of a line.
CREATE TABLE recent (
    key TEXT PRIMARY KEY,
    -- As JSON, each with its time.
    messages TEXT NOT NULL,
    -- When the row is not needed any more.
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX recent_expires ON recent (expires);

-- What persons want: opt-outs, and consents to marketing. No retention removes it.
CREATE TABLE preference (
    id INTEGER PRIMARY KEY,
    controller TEXT NOT NULL,
    -- opt_out or consent.
    kind TEXT NOT NULL,
    -- The line on which it arrived.
    line TEXT,
    -- The messages concerned: all, or marketing.
    scope TEXT NOT NULL,
    -- The only medium: NULL for every medium.
    medium TEXT,
    source TEXT NOT NULL,
    officer TEXT,
    note TEXT,
    -- What a consent is to, how it was given, and the wording.
    consent TEXT,
    at INTEGER NOT NULL,
    -- When the person said it, by the gateway's clock.
    said INTEGER NOT NULL,
    -- The last event before it: later messages of the person may be answered.
    event INTEGER NOT NULL,
    -- The message that confirms it.
    confirmation INTEGER,
    -- When it ended, and the officer who decided so, if it was not the person.
    lifted INTEGER,
    lifted_by TEXT
) STRICT;
CREATE INDEX preference_standing ON preference (controller, kind, id) WHERE lifted IS NULL;

-- The persons of these: their addresses, each with its kind, and the keyed fingerprints that outlive them.
CREATE TABLE preference_key (
    preference INTEGER NOT NULL,
    controller TEXT NOT NULL,
    address TEXT,
    fingerprint TEXT
) STRICT;
CREATE INDEX preference_key_preference ON preference_key (preference);
CREATE INDEX preference_key_address ON preference_key (controller, address) WHERE address IS NOT NULL;
CREATE INDEX preference_key_fingerprint ON preference_key (controller, fingerprint) WHERE fingerprint IS NOT NULL;

-- The lines, as configured in the worker that started last.
CREATE TABLE line (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    controller TEXT,
    languages TEXT NOT NULL,
    -- How long content is kept, in milliseconds.
    retention INTEGER,
    -- When a worker of the line was last active.
    attended INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- When the next message of an account may be sent, in microseconds since 1970: later than now after a gateway required
-- a pause.
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
