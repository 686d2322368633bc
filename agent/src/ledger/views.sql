-- A plus before a term keeps SQLite from an export's index there: it would take kind = ? for a handful of rows, and
-- then join row by row what it otherwise joins by an automatic index (hours instead of seconds at a million entries).
CREATE VIEW operations AS
WITH ended AS MATERIALIZED (
  SELECT json_extract(body, '$.operation') AS operation, json_extract(body, '$.status') AS status,
    json_extract(body, '$.reason') AS reason, json_extract(body, '$.bytes_up') AS bytes_up,
    json_extract(body, '$.bytes_down') AS bytes_down, json_extract(body, '$.duration_us') AS duration_us,
    json_extract(body, '$.masked') AS masked
  FROM entry WHERE +json_extract(body, '$.kind') = 'outcome'),
boundary AS MATERIALIZED (
  SELECT max(seq) AS seq FROM entry
  WHERE json_extract(body, '$.kind') = 'agent' AND json_extract(body, '$.event') IN ('started', 'recovered', 'stopped'))
SELECT o.seq AS entry, json_extract(o.body, '$.id') AS id, json_extract(o.body, '$.at') AS at,
  json_extract(o.body, '$.workload') AS workload, json_extract(o.body, '$.identity.subject') AS subject,
  json_extract(o.body, '$.identity.on_behalf_of') AS on_behalf_of, json_extract(o.body, '$.session') AS session,
  json_extract(o.body, '$.process.exe') AS process_exe, json_extract(o.body, '$.protocol') AS protocol,
  json_extract(o.body, '$.action') AS action, json_extract(o.body, '$.resource.id') AS resource,
  json_extract(o.body, '$.decision') AS decision, json_extract(o.body, '$.reason') AS reason,
  json_extract(o.body, '$.policies') AS policies, json_extract(o.body, '$.policy_set') AS policy_set,
  json_extract(o.body, '$.approval.approver') AS approver, e.status AS status,
  CASE WHEN e.operation IS NOT NULL THEN e.reason
    WHEN json_extract(o.body, '$.decision') <> 'allow' THEN NULL
    WHEN o.seq < (SELECT seq FROM boundary) THEN 'interrupted' ELSE 'open' END AS outcome,
  e.bytes_up AS bytes_up, e.bytes_down AS bytes_down, e.duration_us AS duration_us, e.masked AS masked
FROM entry AS o LEFT JOIN ended AS e ON e.operation = json_extract(o.body, '$.id')
WHERE +json_extract(o.body, '$.kind') = 'operation';

CREATE VIEW sessions AS
WITH event AS MATERIALIZED (
  SELECT seq, body, json_extract(body, '$.session') AS session, json_extract(body, '$.event') AS event
  FROM entry WHERE +json_extract(body, '$.kind') = 'session')
SELECT o.session AS session, o.seq AS entry, json_extract(o.body, '$.workload') AS workload,
  json_extract(o.body, '$.at') AS opened_at, json_extract(c.body, '$.at') AS closed_at,
  json_extract(o.body, '$.process.exe') AS process_exe, json_extract(o.body, '$.process.pid') AS process_pid,
  coalesce(json_extract(c.body, '$.protocol'), json_extract(o.body, '$.protocol')) AS protocol,
  json_extract(o.body, '$.destination.address') AS address, json_extract(o.body, '$.destination.port') AS port,
  coalesce(json_extract(c.body, '$.destination.name'), json_extract(o.body, '$.destination.name')) AS name,
  coalesce(json_extract(c.body, '$.tls'), json_extract(o.body, '$.tls')) AS tls,
  json_extract(c.body, '$.operations') AS operations, json_extract(c.body, '$.bytes_up') AS bytes_up,
  json_extract(c.body, '$.bytes_down') AS bytes_down, json_extract(c.body, '$.reason') AS reason
FROM event AS o LEFT JOIN event AS c ON c.session = o.session AND c.event = 'close'
WHERE o.event = 'open';

CREATE VIEW workload_events AS
SELECT seq AS entry, json_extract(body, '$.at') AS at, json_extract(body, '$.workload') AS workload,
  json_extract(body, '$.event') AS event, json_extract(body, '$.reason') AS reason,
  json_extract(body, '$.detail') AS detail
FROM entry WHERE json_extract(body, '$.kind') = 'workload';

CREATE VIEW changes AS
SELECT seq AS entry, json_extract(body, '$.at') AS at, json_extract(body, '$.subject') AS subject,
  json_extract(body, '$.actor.uid') AS actor_uid, json_extract(body, '$.actor.pid') AS actor_pid,
  json_extract(body, '$.before') AS before, json_extract(body, '$.after') AS after,
  json_extract(body, '$.detail') AS detail
FROM entry WHERE json_extract(body, '$.kind') = 'change';

CREATE VIEW agent_events AS
SELECT seq AS entry, json_extract(body, '$.at') AS at, json_extract(body, '$.kind') AS kind,
  coalesce(json_extract(body, '$.event'), json_extract(body, '$.reason')) AS event,
  json_extract(body, '$.from') AS lost_from, json_extract(body, '$.to') AS lost_to,
  json_extract(body, '$.detail') AS detail
FROM entry WHERE json_extract(body, '$.kind') IN ('agent', 'gap');

CREATE VIEW ledger_events AS
SELECT seq AS entry, json_extract(body, '$.at') AS at, json_extract(body, '$.event') AS event,
  json_extract(body, '$.actor.uid') AS actor_uid, json_extract(body, '$.actor.pid') AS actor_pid,
  json_extract(body, '$.detail') AS detail
FROM entry WHERE json_extract(body, '$.kind') = 'ledger';

CREATE VIEW approvals AS
WITH event AS MATERIALIZED (
  SELECT seq, body, json_extract(body, '$.approval') AS approval, json_extract(body, '$.event') AS event
  FROM entry WHERE +json_extract(body, '$.kind') = 'approval'),
last AS MATERIALIZED (
  SELECT approval, min(seq) AS seq, event, json_extract(body, '$.at') AS at, json_extract(body, '$.covers') AS covers
  FROM event WHERE event IN ('denied', 'expired', 'lapsed')
    OR (event = 'approved' AND json_extract(body, '$.complete')) GROUP BY approval),
said AS MATERIALIZED (
  SELECT approval, json_group_array(json_object('approver', json_extract(body, '$.approver.subject'),
      'groups', json_extract(body, '$.counts_for'), 'answer', event, 'reason', json_extract(body, '$.reason'),
      'at', json_extract(body, '$.at'), 'via', json_extract(body, '$.approver.via'))) AS answers
  FROM event WHERE event IN ('approved', 'denied') GROUP BY approval)
SELECT r.approval AS approval, r.seq AS entry, json_extract(r.body, '$.at') AS asked_at,
  json_extract(r.body, '$.workload') AS workload, json_extract(r.body, '$.identity.subject') AS subject,
  json_extract(r.body, '$.identity.on_behalf_of') AS on_behalf_of, json_extract(r.body, '$.action') AS action,
  json_extract(r.body, '$.resource.id') AS resource, json_extract(r.body, '$.operation') AS operation,
  json_extract(r.body, '$.requirements') AS requirements, json_extract(r.body, '$.policy_set') AS policy_set,
  json_extract(r.body, '$.digest') AS digest, coalesce(last.event, 'open') AS state, last.at AS ended_at,
  last.covers AS covers, said.answers AS answers
FROM event AS r LEFT JOIN last ON last.approval = r.approval LEFT JOIN said ON said.approval = r.approval
WHERE r.event = 'requested';

CREATE VIEW approval_events AS
SELECT seq AS entry, json_extract(body, '$.at') AS at, json_extract(body, '$.approval') AS approval,
  json_extract(body, '$.event') AS event, json_extract(body, '$.workload') AS workload,
  json_extract(body, '$.approver.subject') AS approver, json_extract(body, '$.approver.issuer') AS approver_issuer,
  json_extract(body, '$.approver.via') AS via, json_extract(body, '$.reason') AS reason,
  json_extract(body, '$.covers') AS covers
FROM entry WHERE json_extract(body, '$.kind') = 'approval';

CREATE VIEW payloads AS
SELECT operation, direction, number, size, lower(hex(sha256)) AS sha256,
  CASE codec WHEN 0 THEN 'raw' WHEN 1 THEN 'zstd' END AS codec, length(bytes) AS stored,
  CASE codec WHEN 0 THEN CAST(bytes AS TEXT) END AS content
FROM payload;
