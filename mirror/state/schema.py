"""The tables, as numbered migrations.

Nothing newer than SQLite 3.34 (no STRICT, no RETURNING), which enterprise Linux ships. Times are
seconds since the epoch (UTC). A row of ``entry`` is open while ``valid_to`` is null; it opens in
the transaction that makes its blob publishable and closes in the one that removes it from the
pages, so that the changes between two revisions are one query.
"""

from __future__ import annotations

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

    -- One committing transaction that changes what the pages publish.
    CREATE TABLE revision (id INTEGER PRIMARY KEY, cycle INTEGER NOT NULL, at REAL NOT NULL);

    -- One pass over the indexes.
    CREATE TABLE cycle (
        id INTEGER PRIMARY KEY, started_at REAL NOT NULL, finished_at REAL, outcome TEXT,
        exit_code INTEGER, allow_shrink INTEGER NOT NULL DEFAULT 0, report TEXT);

    -- An index of the configuration, with what its root page said last.
    CREATE TABLE source (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, url TEXT NOT NULL,
        position INTEGER NOT NULL, configured INTEGER NOT NULL DEFAULT 1,
        etag TEXT, last_modified TEXT, serial INTEGER, digest TEXT,
        selection TEXT, root_read INTEGER, listed INTEGER NOT NULL DEFAULT 0, succeeded_at REAL);

    -- A project of an index that the patterns want or once wanted: listed by its last good root, or
    -- gone (listed = 0).
    CREATE TABLE project (
        id INTEGER PRIMARY KEY, source INTEGER NOT NULL REFERENCES source(id), name TEXT NOT NULL,
        listed INTEGER NOT NULL DEFAULT 1, wanted INTEGER NOT NULL DEFAULT 1, listed_serial INTEGER,
        absent_since INTEGER,
        etag TEXT, last_modified TEXT, serial INTEGER, digest TEXT, selection TEXT,
        status TEXT NOT NULL DEFAULT 'active', status_reason TEXT, versions TEXT,
        extra TEXT NOT NULL DEFAULT '{}', extra_meta TEXT NOT NULL DEFAULT '{}',
        withdrawn TEXT, skipped INTEGER NOT NULL DEFAULT 0, claims TEXT,
        UNIQUE (source, name));
    CREATE INDEX project_name ON project (name);
    CREATE INDEX project_skipped ON project (source, skipped) WHERE skipped > 0;
    CREATE INDEX project_absent ON project (source) WHERE absent_since IS NOT NULL;
    CREATE INDEX project_unwanted ON project (source) WHERE wanted = 0 AND listed = 1;

    -- What the pages publish, by revision.
    CREATE TABLE entry (
        id INTEGER PRIMARY KEY, project INTEGER NOT NULL REFERENCES project(id),
        source INTEGER NOT NULL, filename TEXT NOT NULL, sha256 TEXT NOT NULL,
        size INTEGER NOT NULL, digests TEXT NOT NULL, unhashed INTEGER NOT NULL DEFAULT 0,
        url TEXT NOT NULL, upload_time TEXT, requires_python TEXT, yanked TEXT, provenance TEXT,
        extra TEXT NOT NULL DEFAULT '{}', refused TEXT, absent_since INTEGER,
        valid_from INTEGER NOT NULL REFERENCES revision(id),
        valid_to INTEGER REFERENCES revision(id));
    CREATE UNIQUE INDEX entry_open ON entry (project, filename) WHERE valid_to IS NULL;
    CREATE INDEX entry_absent ON entry (project)
        WHERE absent_since IS NOT NULL AND valid_to IS NULL;
    CREATE INDEX entry_unhashed ON entry (source) WHERE unhashed = 1 AND valid_to IS NULL;
    -- What ``status`` counts, in one pass over an index that covers it: valid_to is in it for that.
    CREATE INDEX entry_counts ON entry (source, project, size, valid_to) WHERE valid_to IS NULL;
    CREATE INDEX entry_blob ON entry (sha256) WHERE valid_to IS NULL;
    CREATE INDEX entry_from ON entry (valid_from);
    CREATE INDEX entry_to ON entry (valid_to) WHERE valid_to IS NOT NULL;

    -- Bytes on disk, verified.
    CREATE TABLE blob (
        sha256 TEXT NOT NULL, filename TEXT NOT NULL, size INTEGER NOT NULL, metadata_sha256 TEXT,
        stored REAL NOT NULL, verified REAL NOT NULL, unlisted_since REAL,
        PRIMARY KEY (sha256, filename)) WITHOUT ROWID;
    CREATE INDEX blob_verified ON blob (verified, sha256, filename);
    CREATE INDEX blob_unlisted ON blob (unlisted_since) WHERE unlisted_since IS NOT NULL;

    -- The published pages. marked: the state is ahead of the page on disk.
    CREATE TABLE page (
        name TEXT PRIMARY KEY, revision INTEGER NOT NULL, marked INTEGER NOT NULL,
        published INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE INDEX page_marked ON page (name) WHERE marked = 1;
    CREATE INDEX page_revision ON page (revision);

    -- The ledger: what failed or is withheld, with all that the next try needs. '' stands for «the
    -- page itself».
    CREATE TABLE failure (
        id INTEGER PRIMARY KEY, source INTEGER NOT NULL, project TEXT NOT NULL,
        filename TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL, listed TEXT,
        first_at REAL NOT NULL, last_at REAL NOT NULL, attempts INTEGER NOT NULL,
        next_at REAL NOT NULL,
        UNIQUE (source, project, filename));
    """,
    """
    -- A frozen state of the pages: a snapshot below public/snapshots, or a hidden pin that a bundle
    -- is made from. It needs every blob that was published at its revision. rebuilt: its revision
    -- is not known any more, its blobs are in kept_blob.
    CREATE TABLE snapshot (
        id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, revision INTEGER NOT NULL,
        made_at REAL NOT NULL, note TEXT NOT NULL DEFAULT '', projects INTEGER NOT NULL DEFAULT 0,
        files INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
        ready INTEGER NOT NULL DEFAULT 0, rebuilt INTEGER NOT NULL DEFAULT 0,
        UNIQUE (kind, name));
    CREATE INDEX snapshot_revision ON snapshot (revision);
    CREATE TABLE kept_blob (
        sha256 TEXT NOT NULL, filename TEXT NOT NULL,
        snapshot INTEGER NOT NULL REFERENCES snapshot(id) ON DELETE CASCADE,
        PRIMARY KEY (sha256, filename, snapshot)) WITHOUT ROWID;
    CREATE INDEX kept_blob_snapshot ON kept_blob (snapshot);
    CREATE INDEX entry_blob_closed ON entry (sha256, filename) WHERE valid_to IS NOT NULL;
    CREATE INDEX entry_project_closed ON entry (project) WHERE valid_to IS NOT NULL;

    -- A place beyond the gap, and what was made for it. needed: a later bundle may build on it.
    CREATE TABLE site (name TEXT PRIMARY KEY, chain TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE shipment (
        id INTEGER PRIMARY KEY, site TEXT NOT NULL, chain TEXT NOT NULL, sequence INTEGER NOT NULL,
        digest TEXT NOT NULL, revision INTEGER NOT NULL, base INTEGER, state TEXT NOT NULL,
        volumes INTEGER NOT NULL, bytes INTEGER NOT NULL, made_at REAL NOT NULL,
        acknowledged_at REAL, free_bytes INTEGER, damage INTEGER, needed INTEGER NOT NULL DEFAULT 1,
        UNIQUE (chain, sequence));
    CREATE INDEX shipment_revision ON shipment (revision) WHERE needed = 1;

    -- When a blob's sidecar became what it is: a bundle carries it again where its base may have
    -- another one.
    ALTER TABLE blob ADD COLUMN metadata_revision INTEGER NOT NULL DEFAULT 0;
    CREATE TRIGGER blob_entered AFTER INSERT ON blob BEGIN
        UPDATE blob SET metadata_revision = (SELECT coalesce(max(id), 0) FROM revision)
            WHERE sha256 = new.sha256 AND filename = new.filename; END;
    CREATE TRIGGER blob_sidecar AFTER UPDATE OF metadata_sha256 ON blob
        WHEN old.metadata_sha256 IS NOT new.metadata_sha256 BEGIN
        UPDATE blob SET metadata_revision = (SELECT coalesce(max(id), 0) FROM revision)
            WHERE sha256 = new.sha256 AND filename = new.filename; END;
    """,
    """
    -- The last cycle in which a person lifted the brake of this index: its window begins after
    -- that.
    ALTER TABLE source ADD COLUMN brake_lifted INTEGER;
    UPDATE source SET brake_lifted = (SELECT max(id) FROM cycle WHERE allow_shrink = 1);
    """,
    """
    -- What a project's page lists and a rule leaves out: how many files for each rule, and the
    -- first names as a JSON array.
    CREATE TABLE left_out (
        project INTEGER NOT NULL REFERENCES project(id), rule TEXT NOT NULL, files INTEGER NOT NULL,
        names TEXT NOT NULL,
        PRIMARY KEY (project, rule)) WITHOUT ROWID;
    """,
    """
    -- Links are kept without their query, which may open a file to everyone who has it. needs_page:
    -- the link had one, so that the next try reads the page again.
    ALTER TABLE failure ADD COLUMN needs_page INTEGER NOT NULL DEFAULT 0;
    UPDATE failure SET needs_page = 1, listed = NULL WHERE instr(listed, '?') > 0;
    UPDATE entry SET url = substr(url, 1, instr(url, '?')) WHERE instr(url, '?') > 0;
    UPDATE entry SET provenance = NULL WHERE instr(provenance, '?') > 0;
    UPDATE entry SET extra = without_url_secrets(extra) WHERE instr(extra, '://') > 0;
    UPDATE project SET extra = without_url_secrets(extra),
        extra_meta = without_url_secrets(extra_meta)
        WHERE instr(extra, '://') + instr(extra_meta, '://') > 0;
    INSERT OR REPLACE INTO meta (key, value) VALUES ('vacuum', '1');
    """,
    """
    -- What is missing without a failure, as the last whole cycle judged it. literal: the
    -- configuration names it.
    CREATE TABLE unserved (
        index_name TEXT NOT NULL, project TEXT NOT NULL, filename TEXT NOT NULL,
        reason TEXT NOT NULL, detail TEXT NOT NULL, literal INTEGER NOT NULL,
        first_at REAL NOT NULL,
        PRIMARY KEY (index_name, project, filename)) WITHOUT ROWID;
    """,
    """
    -- The projects whose pages an index let out last, the last one first: what a refusal means is
    -- judged by them.
    ALTER TABLE source ADD COLUMN let_out TEXT;
    """,
    """
    -- Whether an index was read with a credential: without one it may show less. Null until the
    -- next look tells.
    ALTER TABLE source ADD COLUMN had_credential INTEGER;
    """,
    """
    -- Metadata of what is no wheel belongs to the project of the index that listed it: only its
    -- page offers it.
    ALTER TABLE blob ADD COLUMN metadata_project INTEGER;
    -- The metadata that was published first for a file that is no wheel. No other is ever offered:
    -- a site may have it. Empty: nobody knows which was sent, so none is offered any more. The row
    -- outlives its blob.
    CREATE TABLE first_metadata (
        sha256 TEXT NOT NULL, filename TEXT NOT NULL, metadata_sha256 TEXT NOT NULL,
        PRIMARY KEY (sha256, filename)) WITHOUT ROWID;
    -- Metadata that no page may offer: it leaves the disk once no page of a snapshot names it
    -- either.
    CREATE TABLE dropped_metadata (
        sha256 TEXT NOT NULL, filename TEXT NOT NULL, PRIMARY KEY (sha256, filename)) WITHOUT ROWID;
    -- Which version of the renderer wrote the pages of a frozen state.
    ALTER TABLE snapshot ADD COLUMN renderer INTEGER NOT NULL DEFAULT 1;
    -- The removal brake does not count what left by a rule of ours.
    ALTER TABLE entry ADD COLUMN exempt INTEGER NOT NULL DEFAULT 0;
    """,
    """
    -- Where a project's page is, relative to the index's URL; null: NAME/ below it, as is usual.
    -- The roots are read again, since nobody has looked at their links before.
    ALTER TABLE project ADD COLUMN address TEXT;
    UPDATE source SET etag = NULL, last_modified = NULL, digest = NULL;
    """,
    """
    -- Where a page came from last; null: the index's own origin.
    ALTER TABLE project ADD COLUMN page_origin TEXT;
    ALTER TABLE source ADD COLUMN page_origin TEXT;
    """,
    """
    -- Why a cycle stopped before its end, where the disk or the state did it.
    ALTER TABLE cycle ADD COLUMN problem TEXT;
    """,
    """
    -- Files of a flat page whose names tell no project: [how many, the first names] as JSON; null:
    -- none.
    ALTER TABLE source ADD COLUMN unread TEXT;
    ALTER TABLE source ADD COLUMN is_flat INTEGER NOT NULL DEFAULT 0;
    """,
    """
    -- The search. shown: its page is published. summary: of the newest wheel's metadata; null: not
    -- read yet. words: the name and the folded summary, as ``state.search`` compares them.
    CREATE TABLE about (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, shown INTEGER NOT NULL DEFAULT 0,
        summary TEXT, version TEXT, words TEXT NOT NULL);
    CREATE INDEX about_unread ON about (name) WHERE summary IS NULL AND shown = 1;
    INSERT INTO about (name, shown, words) SELECT name, 1, name FROM page WHERE published = 1;
    CREATE TRIGGER page_appeared AFTER INSERT ON page WHEN new.published = 1 BEGIN
        INSERT INTO about (name, shown, words) VALUES (new.name, 1, new.name)
            ON CONFLICT (name) DO UPDATE SET shown = 1; END;
    CREATE TRIGGER page_changed AFTER UPDATE OF published ON page
        WHEN old.published != new.published BEGIN
        INSERT INTO about (name, shown, words) VALUES (new.name, new.published, new.name)
            ON CONFLICT (name) DO UPDATE SET shown = excluded.shown; END;
    CREATE TRIGGER page_left AFTER DELETE ON page WHEN old.published = 1 BEGIN
        UPDATE about SET shown = 0 WHERE name = old.name; END;
    """,
    """
    -- What a want needs in a target: the digest of all that its resolution depends on, and its
    -- result as JSON.
    CREATE TABLE resolution (
        id INTEGER PRIMARY KEY, want TEXT NOT NULL, file TEXT NOT NULL, target TEXT NOT NULL,
        inputs TEXT NOT NULL, answer TEXT NOT NULL, cycle INTEGER NOT NULL, made_at REAL NOT NULL,
        UNIQUE (want, file, target));
    -- part: set; earlier, until the set is held as a whole; sought, if it could be had.
    CREATE TABLE wanted (
        resolution INTEGER NOT NULL, part TEXT NOT NULL, index_name TEXT NOT NULL,
        project TEXT NOT NULL, filename TEXT NOT NULL,
        PRIMARY KEY (resolution, part, index_name, project, filename)) WITHOUT ROWID;
    CREATE INDEX wanted_file ON wanted (project, filename, index_name);
    -- The names that each resolution asked for: their pages are asked for in each cycle.
    CREATE TABLE asked (
        project TEXT NOT NULL, resolution INTEGER NOT NULL,
        PRIMARY KEY (project, resolution)) WITHOUT ROWID;
    CREATE INDEX asked_resolution ON asked (resolution);
    """,
    """
    -- Files that no want needs any more, with the cycle in which the last want dropped them.
    CREATE TABLE dropped_want (
        project TEXT NOT NULL, filename TEXT NOT NULL, index_name TEXT NOT NULL,
        cycle INTEGER NOT NULL,
        PRIMARY KEY (project, filename, index_name)) WITHOUT ROWID;
    CREATE TRIGGER wanted_dropped AFTER DELETE ON wanted WHEN NOT EXISTS (SELECT 1 FROM wanted
        WHERE project = old.project AND filename = old.filename
            AND index_name = old.index_name) BEGIN
        INSERT OR REPLACE INTO dropped_want (project, filename, index_name, cycle)
            SELECT old.project, old.filename, old.index_name, coalesce(max(id), 0) FROM cycle; END;
    CREATE TRIGGER wanted_again AFTER INSERT ON wanted BEGIN
        DELETE FROM dropped_want WHERE project = new.project AND filename = new.filename
            AND index_name = new.index_name; END;
    -- The cycle since which only needed files of an index are mirrored; null: its patterns decide.
    ALTER TABLE source ADD COLUMN needed_since INTEGER;
    """,
    """
    -- The proof that a want installs in a target: the digest of the published rows that it was
    -- shown, and its answer.
    CREATE TABLE proof (
        want TEXT NOT NULL, file TEXT NOT NULL, target TEXT NOT NULL, inputs TEXT NOT NULL,
        answer TEXT NOT NULL,
        PRIMARY KEY (want, file, target)) WITHOUT ROWID;
    """,
    """
    -- The advisories in force: each file of the database as it was read, and the advisories by
    -- project.
    CREATE TABLE osv_record (
        path TEXT PRIMARY KEY, stamp TEXT NOT NULL, id TEXT NOT NULL, record TEXT NOT NULL
    ) WITHOUT ROWID;
    -- judged: the files of the project have been compared with them.
    CREATE TABLE advisory (
        project TEXT PRIMARY KEY, advisories TEXT NOT NULL, judged INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE INDEX advisory_unjudged ON advisory (project) WHERE judged = 0;
    -- Files of an index that advisories name. kind: vulnerable; unjudged, a local build;
    -- withdrawn, malware that no page may list. ids: a JSON array. fixed: the first version in
    -- which it is fixed.
    CREATE TABLE advised (
        project INTEGER NOT NULL REFERENCES project(id), filename TEXT NOT NULL, kind TEXT NOT NULL,
        ids TEXT NOT NULL, level INTEGER NOT NULL, fixed TEXT, PRIMARY KEY (project, filename)
    ) WITHOUT ROWID;
    CREATE INDEX advised_kind ON advised (kind, project);
    """,
    """
    -- Files that the cooldown or an advisory keeps out, with their listing as in the ledger.
    -- next_at: when each is judged again; null: once there is a new database of advisories.
    -- after: the rule that keeps it out even then.
    CREATE TABLE deferred (
        project INTEGER NOT NULL REFERENCES project(id), filename TEXT NOT NULL,
        source INTEGER NOT NULL, rule TEXT NOT NULL, after TEXT NOT NULL DEFAULT '',
        listed TEXT NOT NULL, next_at REAL,
        needs_page INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (project, filename)) WITHOUT ROWID;
    CREATE INDEX deferred_next ON deferred (source, next_at, rule) WHERE next_at IS NOT NULL;
    -- When a digest of a file was listed first.
    -- digest: its algorithm and digits, or what stands for them.
    CREATE TABLE first_sight (
        project INTEGER NOT NULL REFERENCES project(id), filename TEXT NOT NULL,
        digest TEXT NOT NULL, seen_at REAL NOT NULL,
        PRIMARY KEY (project, filename, digest)) WITHOUT ROWID;
    -- Names under which a file was published, once its row is deleted with the history.
    CREATE TABLE published_name (
        project INTEGER NOT NULL, filename TEXT NOT NULL,
        PRIMARY KEY (project, filename)) WITHOUT ROWID;
    CREATE TRIGGER entry_forgotten AFTER DELETE ON entry BEGIN
        INSERT OR IGNORE INTO published_name (project, filename)
            VALUES (old.project, old.filename); END;
    -- How many files of an index each rule leaves out: the sum of its rows in left_out.
    CREATE TABLE left_out_total (
        source INTEGER NOT NULL, rule TEXT NOT NULL, files INTEGER NOT NULL,
        PRIMARY KEY (source, rule)) WITHOUT ROWID;
    INSERT INTO left_out_total (source, rule, files)
        SELECT p.source, l.rule, sum(l.files) FROM project p JOIN left_out l ON l.project = p.id
        GROUP BY 1, 2;
    CREATE TRIGGER left_out_entered AFTER INSERT ON left_out BEGIN
        INSERT INTO left_out_total (source, rule, files)
            SELECT source, new.rule, new.files FROM project WHERE id = new.project
            ON CONFLICT (source, rule) DO UPDATE SET files = files + excluded.files; END;
    CREATE TRIGGER left_out_forgotten AFTER DELETE ON left_out BEGIN
        UPDATE left_out_total SET files = files - old.files WHERE rule = old.rule
            AND source = (SELECT source FROM project WHERE id = old.project); END;
    """,
    """
    -- A blob that is entered with its revision needs no second statement; one entered without gets
    -- it as before.
    DROP TRIGGER blob_entered;
    CREATE TRIGGER blob_entered AFTER INSERT ON blob WHEN new.metadata_revision = 0 BEGIN
        UPDATE blob SET metadata_revision = (SELECT coalesce(max(id), 0) FROM revision)
            WHERE sha256 = new.sha256 AND filename = new.filename; END;
    """,
    """
    -- The objects that this root wrote to an object store, with the ETag of each: a page is put
    -- only over it.
    CREATE TABLE object_tag (key TEXT PRIMARY KEY, etag TEXT NOT NULL) WITHOUT ROWID;
    """,
    """
    -- The few projects that their index has withdrawn, among all that it lists.
    CREATE INDEX project_withdrawn ON project (name)
        WHERE withdrawn IS NOT NULL OR status = 'quarantined';
    """,
    """
    -- seen_at is never before a cycle that began earlier. clock_at: the time by a clock that stood
    -- behind it; it counts until the clock has reached seen_at.
    ALTER TABLE first_sight ADD COLUMN clock_at REAL;
    """,
)
"""Each one a script that leads from the version before it; ``PRAGMA user_version`` counts them."""

SCHEMA_VERSION = len(MIGRATIONS)
