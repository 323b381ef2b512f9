-- The state database, schema 1.
--
-- Instants are text, `YYYY-MM-DDTHH:MM:SS.ffffffZ`, so that they sort; identities are hyphenated text; booleans are 0 and 1;
-- lists and objects are JSON text. A row with `removed_at` is a tombstone: its name is free again, its data is kept.

PRAGMA application_id = 1801812343; -- 'keyw'

CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    lineage TEXT NOT NULL,             -- the identity of this database: a saved plan names it
    schema_version INTEGER NOT NULL,
    created_at TEXT NOT NULL
) STRICT;

CREATE TABLE key_rotation_policies (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL,
    policy_name TEXT NOT NULL,
    description TEXT,
    key_type TEXT NOT NULL,
    kms_provider TEXT NOT NULL
        CHECK (kms_provider IN ('local', 'aws_kms', 'vault_transit', 'pkcs11', 'gcp_kms', 'azure_key_vault')),
    rotation_trigger TEXT NOT NULL CHECK (rotation_trigger IN ('time_based', 'usage_based', 'event_based', 'manual')),
    status TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    rotation_interval_days INTEGER,
    rotation_schedule TEXT,
    rotation_time_of_day TEXT NOT NULL, -- HH:MM:SS
    timezone TEXT NOT NULL DEFAULT 'UTC',
    max_usage_count INTEGER,
    usage_threshold_warning INTEGER,
    rotation_events TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(rotation_events)),
    rotation_strategy TEXT CHECK (rotation_strategy IN ('new_key', 'new_version', 'managed')),
    rotation_windows TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(rotation_windows)),
    rotation_spread_minutes INTEGER NOT NULL DEFAULT 0,
    enable_rollback INTEGER NOT NULL DEFAULT 1 CHECK (enable_rollback IN (0, 1)),
    rollback_period_hours INTEGER NOT NULL DEFAULT 24,
    retain_old_keys_days INTEGER NOT NULL DEFAULT 30,
    old_key_disposition TEXT NOT NULL DEFAULT 'keep' CHECK (old_key_disposition IN ('keep', 'disable', 'destroy')),
    destroy_after_disabled_days INTEGER,
    data_max_age_days INTEGER,
    notification_settings TEXT CHECK (notification_settings IS NULL OR json_valid(notification_settings)),
    compliance_tags TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(compliance_tags)),
    authorized_services TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(authorized_services)),
    previous_name TEXT,
    waivers TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(waivers)),
    created_by_commit TEXT NOT NULL,
    created_by_author TEXT NOT NULL,
    created_by_committer TEXT NOT NULL,
    created_by_signer TEXT,
    last_modified_by_commit TEXT NOT NULL,
    last_modified_by_author TEXT NOT NULL,
    last_modified_by_committer TEXT NOT NULL,
    last_modified_by_signer TEXT,
    created_by_token_id TEXT,
    last_modified_by_token_id TEXT,
    correlation_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    last_rotation_at TEXT,
    next_rotation_at TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    removed_at TEXT
) STRICT;

CREATE UNIQUE INDEX key_rotation_policies_live_name ON key_rotation_policies (tenant_id, policy_name)
    WHERE removed_at IS NULL;
CREATE INDEX key_rotation_policies_next_rotation_at ON key_rotation_policies (next_rotation_at)
    WHERE next_rotation_at IS NOT NULL AND removed_at IS NULL;

-- References are checked at the end of a transaction, so that a batch may write its rows in any order.
CREATE TABLE encryption_keys (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL,
    key_name TEXT NOT NULL,
    description TEXT,
    key_type TEXT NOT NULL,
    kms_provider TEXT NOT NULL
        CHECK (kms_provider IN ('local', 'aws_kms', 'vault_transit', 'pkcs11', 'gcp_kms', 'azure_key_vault')),
    kms_region TEXT,
    kms_alias TEXT,
    kms_key_id TEXT,
    rotation_policy TEXT,              -- the policy's name, as the document has it
    rotation_policy_id TEXT
        REFERENCES key_rotation_policies (id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED,
    key_spec TEXT,
    key_usage TEXT,
    key_policy TEXT CHECK (key_policy IS NULL OR json_valid(key_policy)),
    tags TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(tags)),
    multi_region INTEGER NOT NULL DEFAULT 0 CHECK (multi_region IN (0, 1)),
    expires_at TEXT,                   -- YYYY-MM-DD
    previous_name TEXT,
    state TEXT NOT NULL CHECK (state IN ('pending', 'active', 'held', 'parked', 'forgotten')),
    state_reason TEXT,
    managed_since TEXT NOT NULL,
    adopted INTEGER NOT NULL CHECK (adopted IN (0, 1)),
    primary_version_id TEXT REFERENCES key_versions (id) DEFERRABLE INITIALLY DEFERRED,
    last_rotation_at TEXT,
    last_slot TEXT,
    next_rotation_at TEXT,
    failures INTEGER NOT NULL DEFAULT 0 CHECK (failures >= 0), -- runs in a row that could not finish a rotation
    retry_at TEXT,
    created_by_commit TEXT NOT NULL,
    created_by_author TEXT NOT NULL,
    created_by_committer TEXT NOT NULL,
    created_by_signer TEXT,
    last_modified_by_commit TEXT NOT NULL,
    last_modified_by_author TEXT NOT NULL,
    last_modified_by_committer TEXT NOT NULL,
    last_modified_by_signer TEXT,
    correlation_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    removed_at TEXT
) STRICT;

CREATE UNIQUE INDEX encryption_keys_live_name ON encryption_keys (tenant_id, key_name) WHERE removed_at IS NULL;
CREATE INDEX encryption_keys_rotation_policy_id ON encryption_keys (rotation_policy_id)
    WHERE rotation_policy_id IS NOT NULL;
CREATE INDEX encryption_keys_primary_version_id ON encryption_keys (primary_version_id)
    WHERE primary_version_id IS NOT NULL;
CREATE INDEX encryption_keys_next_rotation_at ON encryption_keys (next_rotation_at)
    WHERE next_rotation_at IS NOT NULL AND removed_at IS NULL;

CREATE TABLE key_versions (
    id TEXT PRIMARY KEY NOT NULL,
    key_id TEXT NOT NULL REFERENCES encryption_keys (id) DEFERRABLE INITIALLY DEFERRED,
    number INTEGER NOT NULL CHECK (number >= 1),
    provider_ref TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pre_activation', 'active', 'deactivated', 'suspended', 'disabled',
        'pending_destruction', 'destroyed')),
    rotation_id TEXT,                  -- no reference: a version may carry the mark of a rotation that an older backup lacks
    orphan INTEGER NOT NULL CHECK (orphan IN (0, 1)),
    provider_created_at TEXT,
    activated_at TEXT,
    deactivated_at TEXT,
    compromised_at TEXT,
    retention TEXT CHECK (retention IS NULL OR json_valid(retention)), -- the terms in force at its deactivation
    retain_until TEXT,
    disabled_at TEXT,
    destroy_at TEXT,                   -- when the waiting period of a scheduled destruction ends
    destroyed_at TEXT,
    rewrapped_at TEXT,                 -- a person's word that nothing is encrypted under it any more
    needed_at TEXT,                    -- a person's word that something still needs it
    created_at TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX key_versions_number ON key_versions (key_id, number);
CREATE INDEX key_versions_retain_until ON key_versions (retain_until) WHERE state = 'deactivated';
CREATE INDEX key_versions_retired ON key_versions (state) WHERE state IN ('disabled', 'pending_destruction');
CREATE INDEX key_versions_compromised ON key_versions (key_id) WHERE compromised_at IS NOT NULL;

CREATE TABLE rotations (
    id TEXT PRIMARY KEY NOT NULL,
    key_id TEXT NOT NULL REFERENCES encryption_keys (id) DEFERRABLE INITIALLY DEFERRED,
    tenant_id TEXT NOT NULL,
    key_name TEXT NOT NULL,            -- the key's name when it began
    workflow TEXT NOT NULL CHECK (workflow IN ('create', 'rotate', 'rollback', 'disable', 'enable',
        'schedule_destruction', 'cancel_destruction', 'destroy')),
    phase TEXT NOT NULL
        CHECK (phase IN ('planned', 'creating', 'created', 'verified', 'promoted', 'settled', 'abandoned',
            'retiring')),
    open_step TEXT CHECK (open_step IN ('create', 'verify', 'promote', 'settle', 'retire')),
    cause TEXT NOT NULL
        CHECK (cause IN ('created', 'due', 'overdue', 'usage', 'event', 'manual', 'compromised')),
    reason TEXT NOT NULL,
    slot TEXT,
    from_ref TEXT,
    to_ref TEXT,
    intent TEXT NOT NULL CHECK (json_valid(intent)),
    policy TEXT CHECK (policy IS NULL OR json_valid(policy)), -- the policy that it began with
    error TEXT,
    attempt INTEGER NOT NULL,
    correlation_id TEXT NOT NULL,
    commit_id TEXT,
    started_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    finished_at TEXT
) STRICT;

CREATE UNIQUE INDEX rotations_unfinished ON rotations (key_id) WHERE phase NOT IN ('settled', 'abandoned');
CREATE INDEX rotations_key_id ON rotations (key_id, started_at);
CREATE INDEX rotations_tenant_id ON rotations (tenant_id, started_at);
CREATE INDEX rotations_started_at ON rotations (started_at);
CREATE INDEX rotations_correlation_id ON rotations (correlation_id);

-- The journal. Its order is that of `seq`, never that of a clock.
CREATE TABLE rotation_steps (
    seq INTEGER PRIMARY KEY,
    rotation_id TEXT NOT NULL REFERENCES rotations (id) DEFERRABLE INITIALLY DEFERRED,
    step TEXT NOT NULL CHECK (step IN ('create', 'verify', 'promote', 'settle', 'retire')),
    outcome TEXT NOT NULL CHECK (outcome IN ('started', 'succeeded', 'failed', 'unknown')),
    attempt INTEGER NOT NULL,
    detail TEXT,
    at TEXT NOT NULL
) STRICT;

CREATE INDEX rotation_steps_rotation_id ON rotation_steps (rotation_id);

-- One chain for each tenant; '' is the repository as a whole.
-- hash = SHA-256 (the hash before, 32 zero bytes at first || the other columns as canonical JSON, RFC 8785), in hexadecimal.
CREATE TABLE audit_log (
    tenant_id TEXT NOT NULL,
    seq INTEGER NOT NULL CHECK (seq >= 1),
    at TEXT NOT NULL,
    actor TEXT NOT NULL,
    commit_id TEXT,
    correlation_id TEXT NOT NULL,
    action TEXT NOT NULL,
    object_kind TEXT NOT NULL,
    object_name TEXT NOT NULL,
    before TEXT CHECK (before IS NULL OR json_valid(before)),
    after TEXT CHECK (after IS NULL OR json_valid(after)),
    hash TEXT NOT NULL CHECK (length(hash) = 64),
    PRIMARY KEY (tenant_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER audit_log_is_never_changed BEFORE UPDATE ON audit_log
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only: nothing in it is changed');
END;

-- A replacement deletes without that trigger: an entry only ever comes after the last of its chain.
CREATE TRIGGER audit_log_only_grows BEFORE INSERT ON audit_log
WHEN NEW.seq <> 1 + coalesce((SELECT max(seq) FROM audit_log WHERE tenant_id = NEW.tenant_id), 0)
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only: an entry comes after the last one');
END;

CREATE TRIGGER audit_log_is_never_shortened BEFORE DELETE ON audit_log
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only: nothing in it is deleted');
END;

-- Who may write what, and until when. A token is never given twice, and a lease that was given back keeps its row until
-- somebody takes what it was on.
CREATE TABLE leases (
    token INTEGER PRIMARY KEY AUTOINCREMENT,
    who TEXT NOT NULL,
    pid INTEGER NOT NULL,
    operation TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    acquired_at TEXT NOT NULL,
    expires_at TEXT                    -- none: it was given back or taken away
) STRICT;

CREATE TABLE lease_scopes (
    scope TEXT PRIMARY KEY NOT NULL,   -- a tenant; '' is the repository as a whole
    token INTEGER NOT NULL REFERENCES leases (token) ON DELETE CASCADE
) STRICT;

CREATE INDEX lease_scopes_token ON lease_scopes (token);

CREATE TABLE documents (
    kind TEXT NOT NULL CHECK (kind IN ('Config', 'Guardrail', 'Freeze', 'Tenant')),
    tenant_id TEXT NOT NULL,           -- '' is the repository as a whole
    name TEXT NOT NULL,
    spec TEXT NOT NULL CHECK (json_valid(spec)),
    revision INTEGER NOT NULL,
    last_modified_by_commit TEXT NOT NULL,
    last_modified_by_author TEXT NOT NULL,
    last_modified_by_committer TEXT NOT NULL,
    last_modified_by_signer TEXT,
    PRIMARY KEY (kind, tenant_id, name)
) STRICT;

CREATE TABLE applied_plans (
    seq INTEGER PRIMARY KEY,           -- the order in which they were begun, by no clock
    digest TEXT NOT NULL UNIQUE,
    origin_commit TEXT NOT NULL,
    origin_author TEXT NOT NULL,
    origin_committer TEXT NOT NULL,
    origin_signer TEXT,
    correlation_id TEXT NOT NULL,
    started_at TEXT NOT NULL,
    finished_at TEXT,
    override_reason TEXT
) STRICT;

-- Messages, each on its way to one receiver. The id is made from the fact that is told: a fact is told to a receiver once.
CREATE TABLE outbox (
    id TEXT NOT NULL,
    channel TEXT NOT NULL CHECK (channel IN ('webhook', 'slack')),
    receiver TEXT NOT NULL,            -- the environment variable that holds the address, never the address
    tenant_id TEXT NOT NULL,           -- '' is the repository as a whole
    payload TEXT NOT NULL CHECK (json_valid(payload)),
    signed_with TEXT,                  -- the environment variable that holds the secret
    created_at TEXT NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    next_attempt_at TEXT,              -- whoever sends it moves this on before, so that nobody else does meanwhile
    error TEXT,
    sent_at TEXT,
    given_up_at TEXT,
    PRIMARY KEY (id, channel, receiver)
) STRICT;

CREATE INDEX outbox_waiting ON outbox (next_attempt_at) WHERE sent_at IS NULL AND given_up_at IS NULL;
CREATE INDEX outbox_created_at ON outbox (created_at);

-- Totals, not increments: a report that comes twice counts once.
CREATE TABLE usage_counters (
    key_version_id TEXT NOT NULL REFERENCES key_versions (id) ON DELETE CASCADE,
    source TEXT NOT NULL,
    total INTEGER NOT NULL CHECK (total >= 0),
    reported_at TEXT NOT NULL,
    PRIMARY KEY (key_version_id, source)
) STRICT;

-- CloudEvents that were received: `source` and `id` name one, so that delivering it twice counts once.
CREATE TABLE events (
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    subject TEXT,
    data TEXT CHECK (data IS NULL OR json_valid(data)),
    received_at TEXT NOT NULL,
    acted_on_at TEXT,
    PRIMARY KEY (source, id)
) STRICT;

CREATE INDEX events_waiting ON events (tenant_id, type) WHERE acted_on_at IS NULL;

-- Only the hash of a token is kept.
CREATE TABLE api_tokens (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL,
    name TEXT NOT NULL,
    token_hash TEXT NOT NULL UNIQUE,
    permissions TEXT NOT NULL CHECK (json_valid(permissions)),
    created_at TEXT NOT NULL,
    expires_at TEXT,
    revoked_at TEXT,
    last_used_at TEXT
) STRICT;
