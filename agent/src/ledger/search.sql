CREATE VIEW entry_text AS
SELECT seq, coalesce(json_extract(body, '$.workload'), '') || ' ' || coalesce(json_extract(body, '$.action'), '') || ' '
  || coalesce(json_extract(body, '$.resource.id'), '') || ' ' || coalesce(json_extract(body, '$.context.sql.text'), '') || ' '
  || coalesce(json_extract(body, '$.context.http.method'), '') || ' ' || coalesce(json_extract(body, '$.context.http.path'), '') || ' '
  || coalesce(json_extract(body, '$.context.http.query'), '') || ' ' || coalesce(json_extract(body, '$.context.aws.action'), '') || ' '
  || coalesce(json_extract(body, '$.context.aws.resource'), '') || ' ' || coalesce(json_extract(body, '$.decision'), '') || ' '
  || coalesce(json_extract(body, '$.reason'), '') || ' ' || coalesce(json_extract(body, '$.message'), '') || ' '
  || coalesce(json_extract(body, '$.policies'), '') || ' ' || coalesce(json_extract(body, '$.identity.subject'), '') || ' '
  || coalesce(json_extract(body, '$.identity.on_behalf_of'), '') || ' ' || coalesce(json_extract(body, '$.approver'), '') || ' '
  || coalesce(json_extract(body, '$.approval.approver'), '') || ' ' || coalesce(json_extract(body, '$.covers'), '') || ' '
  || coalesce(json_extract(body, '$.note'), '') || ' ' || coalesce(json_extract(body, '$.destination.name'), '') || ' '
  || coalesce(json_extract(body, '$.destination.address'), '') || ' ' || coalesce(json_extract(body, '$.tls.downstream.sni'), '') || ' '
  || coalesce(json_extract(body, '$.process.exe'), '') || ' ' || coalesce(json_extract(body, '$.process.cgroup'), '') || ' '
  || coalesce(json_extract(body, '$.credential'), '') || ' ' || coalesce(json_extract(body, '$.status'), '') || ' '
  || coalesce(json_extract(body, '$.event'), '') || ' ' || coalesce(json_extract(body, '$.subject'), '') || ' '
  || coalesce(json_extract(body, '$.actor.login'), '') || ' ' || coalesce(json_extract(body, '$.detail'), '') AS text
FROM entry WHERE body IS NOT NULL;
CREATE VIEW payload_text AS
SELECT place, CAST(substr(bytes, 1, 16384) AS TEXT) AS text FROM payload WHERE codec = 0 AND bytes IS NOT NULL;
CREATE VIRTUAL TABLE entry_search USING fts5(text, content='entry_text', content_rowid='seq');
CREATE VIRTUAL TABLE payload_search USING fts5(text, content='payload_text', content_rowid='place');
