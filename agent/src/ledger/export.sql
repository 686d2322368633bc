CREATE INDEX entry_kind ON entry (json_extract(body, '$.kind'), json_extract(body, '$.at'));
CREATE INDEX entry_session ON entry (json_extract(body, '$.session'));
CREATE INDEX payload_operation ON payload (operation, direction, number);
