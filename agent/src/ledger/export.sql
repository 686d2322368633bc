CREATE TABLE about (topic TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE columns (name TEXT NOT NULL, column TEXT NOT NULL, description TEXT NOT NULL, PRIMARY KEY (name, column)) STRICT, WITHOUT ROWID;
CREATE INDEX entry_kind ON entry (json_extract(body, '$.kind'), json_extract(body, '$.at'));
CREATE INDEX entry_session ON entry (json_extract(body, '$.session'));
CREATE INDEX payload_operation ON payload (operation, direction, number);
