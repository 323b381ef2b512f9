-- The state database, schema 1.
--
-- The tables and columns are those of SQLite, in types of PostgreSQL's own. A row with `removed_at` is a tombstone: its name
-- is free again, its data is kept. Names are unqualified: everything lies in the connection's default schema.

CREATE TABLE meta (
    id bigint PRIMARY KEY CHECK (id = 1),
    lineage uuid NOT NULL,             -- the identity of this database: a saved plan names it
    schema_version bigint NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE TABLE key_rotation_policies (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    policy_name text NOT NULL,
    description text,
    key_type text NOT NULL,
    kms_provider text NOT NULL
        CHECK (kms_provider IN ('local', 'aws_kms', 'vault_transit', 'pkcs11', 'gcp_kms', 'azure_key_vault')),
    rotation_trigger text NOT NULL CHECK (rotation_trigger IN ('time_based', 'usage_based', 'event_based', 'manual')),
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    rotation_interval_days bigint,
    rotation_schedule text,
    rotation_time_of_day time NOT NULL,
    timezone text NOT NULL DEFAULT 'UTC',
    max_usage_count bigint,
    usage_threshold_warning bigint,
    rotation_events jsonb NOT NULL DEFAULT '[]',
    rotation_strategy text CHECK (rotation_strategy IN ('new_key', 'new_version', 'managed')),
    rotation_windows jsonb NOT NULL DEFAULT '[]',
    rotation_spread_minutes bigint NOT NULL DEFAULT 0,
    enable_rollback boolean NOT NULL DEFAULT true,
    rollback_period_hours bigint NOT NULL DEFAULT 24,
    retain_old_keys_days bigint NOT NULL DEFAULT 30,
    old_key_disposition text NOT NULL DEFAULT 'keep' CHECK (old_key_disposition IN ('keep', 'disable', 'destroy')),
    destroy_after_disabled_days bigint,
    data_max_age_days bigint,
    notification_settings jsonb,
    compliance_tags jsonb NOT NULL DEFAULT '[]',
    authorized_services jsonb NOT NULL DEFAULT '[]',
    previous_name text,
    waivers jsonb NOT NULL DEFAULT '[]',
    created_by_commit text NOT NULL,
    created_by_author text NOT NULL,
    created_by_committer text NOT NULL,
    created_by_signer text,
    last_modified_by_commit text NOT NULL,
    last_modified_by_author text NOT NULL,
    last_modified_by_committer text NOT NULL,
    last_modified_by_signer text,
    created_by_token_id uuid,
    last_modified_by_token_id uuid,
    correlation_id text NOT NULL,
    revision bigint NOT NULL,
    last_rotation_at timestamptz,
    next_rotation_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    removed_at timestamptz
);

CREATE UNIQUE INDEX key_rotation_policies_live_name ON key_rotation_policies (tenant_id, policy_name)
    WHERE removed_at IS NULL;
CREATE INDEX key_rotation_policies_next_rotation_at ON key_rotation_policies (next_rotation_at)
    WHERE next_rotation_at IS NOT NULL AND removed_at IS NULL;

-- References are checked at the end of a transaction, so that a batch may write its rows in any order.
CREATE TABLE encryption_keys (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    key_name text NOT NULL,
    description text,
    key_type text NOT NULL,
    kms_provider text NOT NULL
        CHECK (kms_provider IN ('local', 'aws_kms', 'vault_transit', 'pkcs11', 'gcp_kms', 'azure_key_vault')),
    kms_region text,
    kms_alias text,
    kms_key_id text,
    rotation_policy text,              -- the policy's name, as the document has it
    rotation_policy_id uuid
        REFERENCES key_rotation_policies (id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED,
    key_spec text,
    key_usage text,
    key_policy jsonb,
    tags jsonb NOT NULL DEFAULT '{}',
    multi_region boolean NOT NULL DEFAULT false,
    expires_at date,
    previous_name text,
    state text NOT NULL CHECK (state IN ('pending', 'active', 'held', 'parked', 'forgotten')),
    state_reason text,
    managed_since timestamptz NOT NULL,
    adopted boolean NOT NULL,
    primary_version_id uuid,
    last_rotation_at timestamptz,
    last_slot timestamptz,
    next_rotation_at timestamptz,
    failures bigint NOT NULL DEFAULT 0 CHECK (failures >= 0), -- runs in a row that could not finish a rotation
    retry_at timestamptz,
    created_by_commit text NOT NULL,
    created_by_author text NOT NULL,
    created_by_committer text NOT NULL,
    created_by_signer text,
    last_modified_by_commit text NOT NULL,
    last_modified_by_author text NOT NULL,
    last_modified_by_committer text NOT NULL,
    last_modified_by_signer text,
    correlation_id text NOT NULL,
    revision bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    removed_at timestamptz
);

CREATE UNIQUE INDEX encryption_keys_live_name ON encryption_keys (tenant_id, key_name) WHERE removed_at IS NULL;
CREATE INDEX encryption_keys_rotation_policy_id ON encryption_keys (rotation_policy_id)
    WHERE rotation_policy_id IS NOT NULL;
CREATE INDEX encryption_keys_primary_version_id ON encryption_keys (primary_version_id)
    WHERE primary_version_id IS NOT NULL;
CREATE INDEX encryption_keys_next_rotation_at ON encryption_keys (next_rotation_at)
    WHERE next_rotation_at IS NOT NULL AND removed_at IS NULL;

CREATE TABLE key_versions (
    id uuid PRIMARY KEY,
    key_id uuid NOT NULL REFERENCES encryption_keys (id) DEFERRABLE INITIALLY DEFERRED,
    number bigint NOT NULL CHECK (number >= 1),
    provider_ref text NOT NULL,
    state text NOT NULL CHECK (state IN ('pre_activation', 'active', 'deactivated', 'suspended', 'disabled',
        'pending_destruction', 'destroyed')),
    rotation_id uuid,                  -- no reference: a version may carry the mark of a rotation that an older backup lacks
    orphan boolean NOT NULL,
    provider_created_at timestamptz,
    activated_at timestamptz,
    deactivated_at timestamptz,
    compromised_at timestamptz,
    retention jsonb,                   -- the terms in force at its deactivation
    retain_until timestamptz,
    disabled_at timestamptz,
    destroy_at timestamptz,            -- when the waiting period of a scheduled destruction ends
    destroyed_at timestamptz,
    rewrapped_at timestamptz,          -- a person's word that nothing is encrypted under it any more
    needed_at timestamptz,             -- a person's word that something still needs it
    created_at timestamptz NOT NULL
);

ALTER TABLE encryption_keys ADD CONSTRAINT encryption_keys_primary_version_id_fkey
    FOREIGN KEY (primary_version_id) REFERENCES key_versions (id) DEFERRABLE INITIALLY DEFERRED;

CREATE UNIQUE INDEX key_versions_number ON key_versions (key_id, number);
CREATE INDEX key_versions_retain_until ON key_versions (retain_until) WHERE state = 'deactivated';
CREATE INDEX key_versions_retired ON key_versions (state) WHERE state IN ('disabled', 'pending_destruction');
CREATE INDEX key_versions_compromised ON key_versions (key_id) WHERE compromised_at IS NOT NULL;

CREATE TABLE rotations (
    id uuid PRIMARY KEY,
    key_id uuid NOT NULL REFERENCES encryption_keys (id) DEFERRABLE INITIALLY DEFERRED,
    tenant_id text NOT NULL,
    key_name text NOT NULL,            -- the key's name when it began
    workflow text NOT NULL CHECK (workflow IN ('create', 'rotate', 'rollback', 'disable', 'enable',
        'schedule_destruction', 'cancel_destruction', 'destroy')),
    phase text NOT NULL
        CHECK (phase IN ('planned', 'creating', 'created', 'verified', 'promoted', 'settled', 'abandoned',
            'retiring')),
    open_step text CHECK (open_step IN ('create', 'verify', 'promote', 'settle', 'retire')),
    cause text NOT NULL
        CHECK (cause IN ('created', 'due', 'overdue', 'usage', 'event', 'manual', 'compromised')),
    reason text NOT NULL,
    slot timestamptz,
    from_ref text,
    to_ref text,
    intent jsonb NOT NULL,
    policy jsonb,                      -- the policy that it began with
    error text,
    attempt bigint NOT NULL,
    correlation_id text NOT NULL,
    commit_id text,
    started_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    finished_at timestamptz
);

CREATE UNIQUE INDEX rotations_unfinished ON rotations (key_id) WHERE phase NOT IN ('settled', 'abandoned');
CREATE INDEX rotations_key_id ON rotations (key_id, started_at);
CREATE INDEX rotations_tenant_id ON rotations (tenant_id, started_at);
CREATE INDEX rotations_started_at ON rotations (started_at);
CREATE INDEX rotations_correlation_id ON rotations (correlation_id);

-- The journal. Its order is that of `seq`, never that of a clock.
CREATE TABLE rotation_steps (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rotation_id uuid NOT NULL REFERENCES rotations (id) DEFERRABLE INITIALLY DEFERRED,
    step text NOT NULL CHECK (step IN ('create', 'verify', 'promote', 'settle', 'retire')),
    outcome text NOT NULL CHECK (outcome IN ('started', 'succeeded', 'failed', 'unknown')),
    attempt bigint NOT NULL,
    detail text,
    at timestamptz NOT NULL
);

CREATE INDEX rotation_steps_rotation_id ON rotation_steps (rotation_id);

-- One chain for each tenant; '' is the repository as a whole. What was hashed is kept as it was written (json, not jsonb).
-- hash = SHA-256 (the hash before, 32 zero bytes at first || the other columns as canonical JSON, RFC 8785), in hexadecimal.
CREATE TABLE audit_log (
    tenant_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL CHECK (seq >= 1),
    at timestamptz NOT NULL,
    actor text NOT NULL,
    commit_id text,
    correlation_id text NOT NULL,
    action text NOT NULL,
    object_kind text NOT NULL,
    object_name text NOT NULL,
    before json,
    after json,
    hash text NOT NULL CHECK (length(hash) = 64),
    PRIMARY KEY (tenant_id, seq)
);

CREATE FUNCTION refuse_change_of_audit_log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only: nothing in it is changed or deleted'
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;

CREATE TRIGGER audit_log_is_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit_log();

-- An entry only ever comes after the last of its chain.
CREATE FUNCTION refuse_gap_in_audit_log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.seq <> 1 + coalesce((SELECT max(seq) FROM audit_log WHERE tenant_id = NEW.tenant_id), 0) THEN
        RAISE EXCEPTION 'the audit log is append-only: an entry comes after the last one'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER audit_log_only_grows BEFORE INSERT ON audit_log
    FOR EACH ROW EXECUTE FUNCTION refuse_gap_in_audit_log();

-- Who may write what, and until when. A token is never given twice, and a lease that was given back keeps its row until
-- somebody takes what it was on.
CREATE TABLE leases (
    token bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    who text NOT NULL,
    pid bigint NOT NULL,
    operation text NOT NULL,
    correlation_id text NOT NULL,
    acquired_at timestamptz NOT NULL,
    expires_at timestamptz             -- none: it was given back or taken away
);

CREATE TABLE lease_scopes (
    scope text PRIMARY KEY,            -- a tenant; '' is the repository as a whole
    token bigint NOT NULL REFERENCES leases (token) ON DELETE CASCADE
);

CREATE INDEX lease_scopes_token ON lease_scopes (token);

-- Batches of the last day. Whoever lost the answer to a COMMIT finds out here whether it was carried out.
CREATE TABLE batches (
    id uuid PRIMARY KEY,
    committed_at timestamptz NOT NULL
);

CREATE INDEX batches_committed_at ON batches (committed_at);

CREATE TABLE documents (
    kind text NOT NULL CHECK (kind IN ('Config', 'Guardrail', 'Freeze', 'Tenant')),
    tenant_id text NOT NULL,           -- '' is the repository as a whole
    name text NOT NULL,
    spec jsonb NOT NULL,
    revision bigint NOT NULL,
    last_modified_by_commit text NOT NULL,
    last_modified_by_author text NOT NULL,
    last_modified_by_committer text NOT NULL,
    last_modified_by_signer text,
    PRIMARY KEY (kind, tenant_id, name)
);

CREATE TABLE applied_plans (
    seq bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, -- the order in which they were begun, by no clock
    digest text NOT NULL UNIQUE,
    origin_commit text NOT NULL,
    origin_author text NOT NULL,
    origin_committer text NOT NULL,
    origin_signer text,
    correlation_id text NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    override_reason text
);

-- Messages, each on its way to one receiver. The id is made from the fact that is told: a fact is told to a receiver once.
CREATE TABLE outbox (
    id uuid NOT NULL,
    channel text NOT NULL CHECK (channel IN ('webhook', 'slack')),
    receiver text NOT NULL, -- the environment variable that holds the address, never the address
    tenant_id text NOT NULL, -- '' is the repository as a whole
    payload jsonb NOT NULL,
    signed_with text, -- the environment variable that holds the secret
    created_at timestamptz NOT NULL,
    attempt bigint NOT NULL DEFAULT 0,
    next_attempt_at timestamptz, -- whoever sends it moves this on before, so that nobody else does meanwhile
    error text,
    sent_at timestamptz,
    given_up_at timestamptz,
    PRIMARY KEY (id, channel, receiver)
);

CREATE INDEX outbox_waiting ON outbox (next_attempt_at) WHERE sent_at IS NULL AND given_up_at IS NULL;
CREATE INDEX outbox_created_at ON outbox (created_at);

-- Totals, not increments: a report that comes twice counts once.
CREATE TABLE usage_counters (
    key_version_id uuid NOT NULL REFERENCES key_versions (id) ON DELETE CASCADE,
    source text NOT NULL,
    total bigint NOT NULL CHECK (total >= 0),
    reported_at timestamptz NOT NULL,
    PRIMARY KEY (key_version_id, source)
);

-- CloudEvents that were received: `source` and `id` name one, so that delivering it twice counts once.
CREATE TABLE events (
    source text NOT NULL,
    id text NOT NULL,
    type text NOT NULL,
    tenant_id text NOT NULL,
    subject text,
    data jsonb,
    received_at timestamptz NOT NULL,
    acted_on_at timestamptz,
    PRIMARY KEY (source, id)
);

CREATE INDEX events_waiting ON events (tenant_id, type) WHERE acted_on_at IS NULL;

-- Only the hash of a token is kept.
CREATE TABLE api_tokens (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    name text NOT NULL,
    token_hash text NOT NULL UNIQUE,
    permissions jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);
