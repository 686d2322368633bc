-- The ledger's tables. Evidence: entry, payload, frontier, checkpoint, statement, witness, timestamp, policy_set, key.
-- `tree` (live ledger only) is a cache for a fast start.
-- No secondary index here: every one would cost each append; an export has them.
CREATE TABLE entry (seq INTEGER PRIMARY KEY, body TEXT, salt BLOB, leaf BLOB NOT NULL) STRICT;
CREATE TABLE payload (place INTEGER PRIMARY KEY, operation TEXT NOT NULL, direction TEXT NOT NULL, number INTEGER NOT NULL, sha256 BLOB NOT NULL, codec INTEGER NOT NULL, size INTEGER NOT NULL, bytes BLOB) STRICT;
CREATE TABLE frontier (size INTEGER PRIMARY KEY, nodes BLOB NOT NULL) STRICT;
CREATE TABLE checkpoint (size INTEGER PRIMARY KEY, note TEXT NOT NULL) STRICT;
CREATE TABLE statement (note TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE witness (size INTEGER NOT NULL, signature TEXT NOT NULL, PRIMARY KEY (size, signature)) STRICT, WITHOUT ROWID;
CREATE TABLE timestamp (size INTEGER NOT NULL, token BLOB NOT NULL, PRIMARY KEY (size, token)) STRICT, WITHOUT ROWID;
CREATE TABLE policy_set (hash TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE key (vkey TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
