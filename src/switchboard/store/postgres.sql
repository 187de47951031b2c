-- Step 1. The program runs none of this by itself: Store::migrate does, or a DBA. A role that only works on it needs
-- no more than
--   GRANT USAGE ON SCHEMA civic_messaging TO the_role;
--   GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA civic_messaging TO the_role;
-- and the role of another program, which only hands messages in, no more than
--   GRANT USAGE ON SCHEMA civic_messaging TO the_application;
--   GRANT EXECUTE ON FUNCTION civic_messaging.enqueue(text, text, timestamptz) TO the_application;
--   GRANT EXECUTE ON FUNCTION civic_messaging.enqueue(text, jsonb, timestamptz) TO the_application;

CREATE SCHEMA IF NOT EXISTS civic_messaging;

-- The steps that were run.
CREATE TABLE civic_messaging.migration (
    step INTEGER PRIMARY KEY,
    at TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- Times are milliseconds since 1970, by the clock of the database.
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
    -- The state, as the indexes go by it: what is being sent is one that is claimed, so that none of them is written when
    -- that begins.
    phase TEXT NOT NULL GENERATED ALWAYS AS (CASE state WHEN 'sending' THEN 'claimed' ELSE state END) STORED,
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
    -- When its retention was over, and it lost all but what counts.
    removed BIGINT,
    -- Its tag, once its content was removed.
    tag TEXT,
    -- What goes instead of it, and when, unless it is delivered by then.
    fallback TEXT,
    fallback_due BIGINT,
    fallback_recipient TEXT,
    -- The message that it goes instead of.
    instead_of BIGINT UNIQUE,
    UNIQUE (line, key)
);
CREATE INDEX message_due ON civic_messaging.message (priority, due, id) WHERE phase IN ('queued', 'deferred');
CREATE INDEX message_open ON civic_messaging.message (conversation, id)
    WHERE phase IN ('queued', 'deferred', 'claimed');
CREATE INDEX message_held ON civic_messaging.message (lease) WHERE phase = 'claimed';
CREATE INDEX message_doubtful ON civic_messaging.message (due) WHERE phase = 'unknown';
CREATE INDEX message_key ON civic_messaging.message (key);
CREATE INDEX message_person ON civic_messaging.message (conversation, queued, id);
CREATE INDEX message_fallback ON civic_messaging.message (fallback_due) WHERE fallback_due IS NOT NULL;
CREATE INDEX message_fallback_person ON civic_messaging.message (hashtextextended(fallback_recipient, 0))
    WHERE fallback_due IS NOT NULL;

-- What is listed and counted by its state: what is settled, what waits, and what may have gone.
CREATE INDEX message_settled ON civic_messaging.message (line, phase, id) WHERE settled IS NOT NULL;
CREATE INDEX message_waiting ON civic_messaging.message (line, phase, id) WHERE phase IN ('queued', 'deferred');
CREATE INDEX message_unknown ON civic_messaging.message (line, id) WHERE phase = 'unknown';
-- What loses its content some day, and has been settled for how long.
CREATE INDEX message_kept ON civic_messaging.message (line, settled)
    WHERE settled IS NOT NULL AND removed IS NULL AND phase <> 'parked';

CREATE TABLE civic_messaging.attempt (
    message BIGINT NOT NULL,
    n INTEGER NOT NULL,
    gateway TEXT NOT NULL,
    account TEXT NOT NULL,
    begun BIGINT NOT NULL,
    -- What the gateway got in place of the key, where it takes none so long.
    reference TEXT,
    ended BIGINT,
    outcome TEXT,
    kind TEXT,
    code TEXT,
    -- It failed for now, and may go another time.
    passing BOOLEAN NOT NULL DEFAULT false,
    -- It may have gone, for a reason with which no other gateway is asked.
    bound BOOLEAN NOT NULL DEFAULT false,
    segments INTEGER,
    -- What the gateway says it costs: millionths of the currency.
    price BIGINT,
    currency TEXT,
    PRIMARY KEY (message, n)
);
CREATE INDEX attempt_reference ON civic_messaging.attempt (reference) WHERE reference IS NOT NULL;

-- The files that a message sends, or its fallback.
CREATE TABLE civic_messaging.message_file (
    sha256 TEXT NOT NULL,
    message BIGINT NOT NULL,
    PRIMARY KEY (sha256, message)
);
CREATE INDEX message_file_message ON civic_messaging.message_file (message);

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
    -- How often it was handed out.
    attempts INTEGER NOT NULL DEFAULT 0,
    -- It failed, and the later ones of its person wait.
    nacked BOOLEAN NOT NULL DEFAULT FALSE,
    -- When it was given up on: only a person hands it out again.
    parked BIGINT,
    acked BIGINT,
    -- When its retention was over, and it lost all but what counts.
    removed BIGINT
);
CREATE INDEX event_open ON civic_messaging.event (id) WHERE acked IS NULL AND parked IS NULL;
CREATE INDEX event_open_line ON civic_messaging.event (line, id) WHERE acked IS NULL AND parked IS NULL;
CREATE INDEX event_parked ON civic_messaging.event (line, id) WHERE acked IS NULL AND parked IS NOT NULL;
CREATE INDEX event_failing ON civic_messaging.event (line, person, id)
    WHERE acked IS NULL AND parked IS NULL AND nacked;
CREATE INDEX event_person ON civic_messaging.event (line, person, taken_in, id) WHERE person IS NOT NULL;

CREATE INDEX event_kept ON civic_messaging.event (line, taken_in) WHERE acked IS NOT NULL AND removed IS NULL;

-- The files of a resident's message: waiting, fetching, held or failed; unwanted once the message lost its content, and
-- removing until the place where files are kept has forgotten it.
CREATE TABLE civic_messaging.file (
    event BIGINT NOT NULL,
    n INTEGER NOT NULL,
    state TEXT NOT NULL,
    -- When something is to be done about it.
    due BIGINT,
    -- A claim counts, and is known by its number.
    tries INTEGER NOT NULL DEFAULT 0,
    sha256 TEXT,
    len BIGINT,
    mime TEXT,
    reason TEXT,
    PRIMARY KEY (event, n)
);
CREATE INDEX file_due ON civic_messaging.file (due) WHERE due IS NOT NULL;
CREATE INDEX file_sha256 ON civic_messaging.file (sha256) WHERE sha256 IS NOT NULL;

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

-- Who answers for what, as the worker that started last said.
CREATE TABLE civic_messaging.line (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    controller TEXT,
    languages TEXT NOT NULL,
    -- How long what was written is kept, in milliseconds.
    retention BIGINT,
    -- When a worker of it was last at work.
    attended BIGINT
);

CREATE TABLE civic_messaging.cursor (
    channel TEXT PRIMARY KEY,
    place TEXT NOT NULL
);

-- Takes a message for a line within the caller's own transaction, and says its number: it is sent once that commits,
-- and never if it does not. As with Switchboard::send, the same key of the same line gives the same number, and another
-- message under that key is refused. docs/operations.md says how a message is written. What is refused is told without
-- a word of the message.
CREATE FUNCTION civic_messaging.enqueue(line text, message text, due timestamptz DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $$
#variable_conflict use_column
DECLARE
    taken jsonb;
    address jsonb;
    address_kind text;
    sendee text;
    a_phone text;
    wrong text;
    moment bigint := floor(extract(epoch FROM clock_timestamp()) * 1000);
    due_at bigint;
    found_id bigint;
    found_body text;
    found_digest text;
    falls_back boolean;
    own_digest text;
    own_key text;
    same boolean;
BEGIN
    BEGIN
        taken := enqueue.message::jsonb;
    EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
        wrong := 'message is not JSON that can be kept';
    END;
    IF wrong IS NULL AND jsonb_typeof(taken) IS DISTINCT FROM 'object' THEN
        wrong := 'message must be a JSON object';
    END IF;
    IF wrong IS NULL THEN
        -- As Switchboard::send writes it: what is null, or as it is without a word, is not there.
        SELECT '{"version": 1, "purpose": "notice"}' || coalesce(jsonb_object_agg(given.key, given.value), '{}')
        INTO taken FROM jsonb_each(taken) AS given
        WHERE given.value <> 'null'
          AND (given.key, given.value) NOT IN (('on_unknown', '"reconcile"'), ('allow', '[]'), ('options', '{}'));
        -- A word that is misspelt would go unheard.
        SELECT coalesce(known.name || ' must be a JSON ' || known.kind,
                        'message may have no more than version, to, content, reply_to, key, purpose, language, '
                        'not_after, tag, on_unknown, allow and options')
        INTO wrong FROM jsonb_each(taken) AS given
        LEFT JOIN (VALUES ('version', 'number'), ('to', 'object'), ('content', 'object'), ('reply_to', 'string'),
                          ('key', 'string'), ('purpose', 'string'), ('language', 'string'), ('not_after', 'number'),
                          ('tag', 'string'), ('on_unknown', 'string'), ('allow', 'array'), ('options', 'object'))
            AS known (name, kind) ON known.name = given.key
        WHERE known.kind IS DISTINCT FROM jsonb_typeof(given.value) LIMIT 1;
    END IF;
    IF wrong IS NULL THEN
        address := taken->'to';
        SELECT given.key INTO address_kind FROM jsonb_each(address) AS given WHERE address <> '{}' LIMIT 1;
        sendee := CASE
            WHEN address_kind IN ('messenger', 'phone', 'short_code') AND jsonb_typeof(address->address_kind) = 'string'
                THEN address->>address_kind
            WHEN address_kind = 'whatsapp'
                THEN coalesce(address#>>'{whatsapp,user_id}', address#>>'{whatsapp,phone}')
            WHEN address_kind IN ('conversation', 'other', 'x') THEN address->address_kind->>'id'
        END;
        a_phone := CASE address_kind WHEN 'phone' THEN sendee WHEN 'whatsapp' THEN address#>>'{whatsapp,phone}' END;
        wrong := CASE
            WHEN enqueue.line IS NULL OR enqueue.line !~ '^[a-z0-9_-]{1,64}$'
                THEN 'line must be 1 to 64 small letters, digits, - and _'
            WHEN taken->'version' <> '1' THEN 'version must be 1, or left out'
            WHEN address IS NULL THEN 'to is missing: {"phone": "+44..."}, for one'
            WHEN (SELECT count(*) FROM jsonb_object_keys(address)) <> 1 OR sendee IS NULL
                THEN 'to must name one phone, whatsapp, x, messenger, short_code, conversation or other'
            -- As it is written, so it is kept, and finds its conversation.
            WHEN a_phone !~ '^\+[1-9][0-9]{6,14}$'
                OR a_phone ~ '^\+44' AND a_phone !~ '^\+44(7[0-9]{9}|[1-689][0-9]{8,9})$'
                THEN 'to must have its phone number in E.164, such as +44 and ten digits, without spaces'
            WHEN sendee !~ CASE address_kind
                    WHEN 'messenger' THEN '^[0-9]{1,64}$'
                    WHEN 'short_code' THEN '^[0-9]{3,8}$'
                    WHEN 'whatsapp' THEN '^(\+[0-9]+|[A-Z]{2}\.(ENT\.)?[A-Za-z0-9]{1,128})$'
                    WHEN 'x' THEN '^[0-9]{1,19}$'
                    ELSE '^[^[:space:]\u0001-\u001f\u007f-\u009f]+$'
                END OR octet_length(sendee) > 256
                THEN 'to has an id that its medium does not have'
            WHEN taken->'content' IS NULL THEN 'content is missing: {"text": "..."}, for one'
            WHEN (SELECT count(*) FROM jsonb_object_keys(taken->'content')) <> 1
                OR NOT taken->'content' ?| ARRAY['ask', 'choice', 'contacts', 'link', 'location', 'media', 'native',
                                                 'reaction', 'template', 'text']
                THEN 'content must be one ask, choice, contacts, link, location, media, native, reaction, template or '
                     'text'
            WHEN jsonb_typeof(taken->'content'->'text') <> 'string' THEN 'content must have its text as a JSON string'
            WHEN taken->>'purpose' NOT IN ('emergency', 'marketing', 'notice', 'reply')
                THEN 'purpose must be emergency, marketing, notice or reply'
            WHEN taken->>'on_unknown' NOT IN ('park', 'reconcile', 'resend')
                THEN 'on_unknown must be park, reconcile or resend'
            WHEN NOT taken->'allow' <@ '["choice_to_text", "link_to_text", "location_to_text", "media_to_text",
                                         "quote_to_nothing", "typography"]'
                THEN 'allow must be of choice_to_text, link_to_text, location_to_text, media_to_text, '
                     'quote_to_nothing and typography'
            WHEN taken->>'not_after' !~ '^-?[0-9]{1,18}$' THEN 'not_after must be in whole milliseconds since 1970'
            WHEN taken->>'key' = '' OR taken->>'key' ~ '[\u0001-\u001f\u007f-\u009f]'
                THEN 'key must have a character at least, and no control characters'
            WHEN NOT isfinite(enqueue.due) THEN 'due must be a moment'
        END;
    END IF;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = wrong;
    END IF;

    taken := taken || '{"version": 1}';
    IF NOT taken ? 'key' THEN
        taken := taken || jsonb_build_object('key', left(encode(sha256(convert_to(concat_ws('/', clock_timestamp(),
            random(), random(), txid_current(), pg_backend_pid()), 'UTF8')), 'hex'), 32));
    END IF;
    -- As an index takes it: a longer one is known by its digest.
    own_key := taken->>'key';
    IF octet_length(own_key) > 1000 THEN
        own_key := encode(sha256(convert_to(own_key, 'UTF8')), 'hex');
    END IF;
    own_digest := encode(sha256(convert_to(taken::text, 'UTF8')), 'hex');
    due_at := greatest(moment, floor(extract(epoch FROM enqueue.due) * 1000)::bigint);
    -- It waits for another that writes the same key at this moment, and then leaves it alone.
    INSERT INTO civic_messaging.message (line, key, recipient, body, digest, priority, state, due, queued)
    VALUES (enqueue.line, own_key, sendee, taken::text, own_digest,
            array_position(ARRAY['emergency', 'reply', 'notice', 'marketing'], taken->>'purpose') - 1,
            CASE WHEN due_at > moment THEN 'deferred' ELSE 'queued' END, due_at, moment)
    ON CONFLICT (line, key) DO NOTHING RETURNING id INTO found_id;
    IF found_id IS NOT NULL THEN
        INSERT INTO civic_messaging.message_file (sha256, message)
        SELECT DISTINCT named[1], found_id
        FROM regexp_matches(taken::text, '"sha256": "([0-9a-f]{64})"', 'g') AS named;
        NOTIFY civic_messaging_to_send;
        RETURN found_id;
    END IF;
    SELECT id, body, digest, fallback IS NOT NULL INTO found_id, found_body, found_digest, falls_back
    FROM civic_messaging.message
    WHERE line = enqueue.line AND key = own_key;
    BEGIN
        same := NOT falls_back AND (found_digest = own_digest OR found_body::jsonb = taken);
    EXCEPTION WHEN data_exception THEN
        same := false;
    END;
    IF same IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'unique_violation', MESSAGE = 'key is that of another message of this line';
    END IF;
    RETURN found_id;
END
$$;

CREATE FUNCTION civic_messaging.enqueue(line text, message jsonb, due timestamptz DEFAULT NULL) RETURNS bigint
LANGUAGE sql AS $$ SELECT civic_messaging.enqueue(enqueue.line, enqueue.message::text, enqueue.due) $$;

REVOKE ALL ON FUNCTION civic_messaging.enqueue(text, text, timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION civic_messaging.enqueue(text, jsonb, timestamptz) FROM PUBLIC;
