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
  json_extract(o.body, '$.approval.approver') AS approver, json_extract(o.body, '$.approval.id') AS approval,
  json_extract(o.body, '$.credential') AS credential, json_extract(o.body, '$.controls') AS controls,
  json_extract(o.body, '$.message') AS message,
  coalesce(json_extract(o.body, '$.context.sql.text'), json_extract(o.body, '$.context.aws.action'),
    json_extract(o.body, '$.context.http.method') || ' ' || json_extract(o.body, '$.context.http.path')) AS what,
  e.status AS status,
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
  CASE WHEN bytes IS NULL THEN 'purged' WHEN codec = 0 THEN 'raw' WHEN codec = 1 THEN 'zstd' WHEN codec = 2 THEN 'zlib'
    END AS codec, length(bytes) AS stored,
  CASE codec WHEN 0 THEN CAST(bytes AS TEXT) END AS content
FROM payload;

-- From here on, one view for each question that an assessor asks. Only what SQLite 3.37 knows (as STRICT needs): a view that
-- a reader's SQLite cannot parse would keep it from opening the file at all.
CREATE VIEW policies_in_force AS
WITH mark AS MATERIALIZED (
  SELECT seq, json_extract(body, '$.at') AS at, json_extract(body, '$.kind') AS kind,
    coalesce(json_extract(body, '$.detail.policy_set'), json_extract(body, '$.after')) AS policy_set
  FROM entry WHERE json_extract(body, '$.kind') IN ('agent', 'change')
    AND (json_extract(body, '$.event') = 'started' OR json_extract(body, '$.subject') = 'policy')),
span AS MATERIALIZED (
  SELECT seq, at, kind, policy_set, lead(at) OVER (ORDER BY seq) AS until_at FROM mark WHERE policy_set IS NOT NULL)
SELECT span.policy_set AS policy_set, span.at AS from_at, span.until_at AS until_at, span.seq AS entry,
  CASE span.kind WHEN 'agent' THEN 'start' WHEN 'change' THEN 'change' END AS by_way_of, p.text AS text
FROM span LEFT JOIN policy_set AS p ON p.hash = span.policy_set
UNION ALL
SELECT hash, NULL, NULL, NULL, NULL, text FROM policy_set WHERE hash NOT IN (SELECT policy_set FROM span);

CREATE VIEW who_may_do_what AS
WITH RECURSIVE file (policy_set, file, rest) AS (
  SELECT p.hash, json_extract(f.value, '$[0]'), json_extract(f.value, '$[1]')
  FROM policy_set AS p, json_each(CASE WHEN json_valid(p.text) THEN p.text ELSE '[]' END) AS f
  WHERE json_extract(f.value, '$[0]') LIKE '%.cedar'),
part (policy_set, file, policy, rest) AS (
  SELECT policy_set, file, NULL, rest FROM file
  UNION ALL
  SELECT policy_set, file, substr(rest, instr(rest, '@id("') + 5,
      instr(substr(rest, instr(rest, '@id("') + 5), '"') - 1), substr(rest, instr(rest, '@id("') + 5)
  FROM part WHERE instr(rest, '@id("') > 0),
granted AS MATERIALIZED (SELECT DISTINCT policy_set, file, policy FROM part WHERE policy IS NOT NULL),
asked AS MATERIALIZED (
  SELECT json_extract(body, '$.policy_set') AS policy_set, json_extract(body, '$.policies') AS policies,
    json_extract(body, '$.decision') AS decision, json_extract(body, '$.workload') AS workload,
    count(*) AS n, min(json_extract(body, '$.at')) AS first_at, max(json_extract(body, '$.at')) AS last_at
  FROM entry WHERE +json_extract(body, '$.kind') = 'operation' GROUP BY 1, 2, 3, 4),
used AS MATERIALIZED (
  SELECT asked.policy_set AS policy_set, each.value AS policy, sum(n) FILTER (WHERE decision = 'allow') AS allowed,
    sum(n) FILTER (WHERE decision <> 'allow') AS denied, min(first_at) AS first_at, max(last_at) AS last_at,
    json_group_array(DISTINCT workload) AS workloads
  FROM asked, json_each(asked.policies) AS each GROUP BY 1, 2)
SELECT granted.policy_set AS policy_set, granted.file AS file, granted.policy AS policy,
  coalesce(used.allowed, 0) AS allowed, coalesce(used.denied, 0) AS denied, used.first_at AS first_used_at,
  used.last_at AS last_used_at, used.workloads AS workloads
FROM granted LEFT JOIN used ON used.policy_set = granted.policy_set AND used.policy = granted.policy
UNION ALL
SELECT policy_set, NULL, policy, coalesce(allowed, 0), coalesce(denied, 0), first_at, last_at, workloads FROM used
WHERE NOT EXISTS (SELECT 1 FROM granted WHERE granted.policy_set = used.policy_set AND granted.policy = used.policy);

CREATE VIEW access_used AS
SELECT json_extract(body, '$.workload') AS workload, json_extract(body, '$.identity.subject') AS subject,
  json_extract(body, '$.action') AS action, json_extract(body, '$.resource.id') AS resource,
  sum(json_extract(body, '$.decision') = 'allow') AS allowed, sum(json_extract(body, '$.decision') <> 'allow') AS denied,
  min(json_extract(body, '$.at')) AS first_at, max(json_extract(body, '$.at')) AS last_at,
  json_group_array(DISTINCT json_extract(body, '$.policies')) AS policies
FROM entry WHERE +json_extract(body, '$.kind') = 'operation' GROUP BY 1, 2, 3, 4;

CREATE VIEW what_was_done AS
SELECT entry, at, workload, subject, on_behalf_of, action, resource, what, policies, policy_set, approver, approval,
  credential, status, outcome, bytes_up, bytes_down, duration_us, masked, session, id AS operation
FROM operations WHERE decision = 'allow';

CREATE VIEW what_was_denied AS
SELECT seq AS entry, json_extract(body, '$.at') AS at, json_extract(body, '$.workload') AS workload,
  json_extract(body, '$.identity.subject') AS subject, json_extract(body, '$.identity.on_behalf_of') AS on_behalf_of,
  json_extract(body, '$.action') AS action, json_extract(body, '$.resource.id') AS resource,
  coalesce(json_extract(body, '$.context.sql.text'), json_extract(body, '$.context.aws.action'),
    json_extract(body, '$.context.http.method') || ' ' || json_extract(body, '$.context.http.path')) AS what,
  json_extract(body, '$.reason') AS reason, json_extract(body, '$.message') AS message,
  json_extract(body, '$.policies') AS policies, json_extract(body, '$.policy_set') AS policy_set,
  json_extract(body, '$.controls') AS controls, json_extract(body, '$.approval.id') AS approval,
  json_extract(body, '$.process.exe') AS process_exe, json_extract(body, '$.session') AS session,
  json_extract(body, '$.id') AS operation
FROM entry WHERE +json_extract(body, '$.kind') = 'operation' AND json_extract(body, '$.decision') <> 'allow';

CREATE VIEW who_approved_what AS
WITH event AS MATERIALIZED (
  SELECT seq, body, json_extract(body, '$.approval') AS approval, json_extract(body, '$.event') AS event
  FROM entry WHERE +json_extract(body, '$.kind') = 'approval'),
passed AS MATERIALIZED (
  SELECT json_extract(body, '$.approval.id') AS approval, count(*) AS n FROM entry
  WHERE +json_extract(body, '$.kind') = 'operation' AND json_extract(body, '$.approval.id') IS NOT NULL
    AND json_extract(body, '$.decision') = 'allow' GROUP BY 1)
SELECT a.seq AS entry, json_extract(a.body, '$.at') AS at, json_extract(a.body, '$.approver.subject') AS approver,
  json_extract(a.body, '$.approver.issuer') AS approver_issuer, json_extract(a.body, '$.approver.name') AS approver_name,
  json_extract(a.body, '$.approver.via') AS via, json_extract(a.body, '$.counts_for') AS counts_for, a.event AS answer,
  json_extract(a.body, '$.reason') AS reason, json_extract(a.body, '$.complete') AS complete,
  json_extract(a.body, '$.covers') AS covers, json_extract(a.body, '$.workload') AS workload,
  json_extract(r.body, '$.identity.subject') AS subject, json_extract(r.body, '$.identity.on_behalf_of') AS on_behalf_of,
  json_extract(r.body, '$.action') AS action, json_extract(r.body, '$.resource.id') AS resource,
  json_extract(r.body, '$.at') AS asked_at, a.approval AS approval, json_extract(a.body, '$.policy_set') AS policy_set,
  coalesce(passed.n, 0) AS operations_passed
FROM event AS a LEFT JOIN event AS r ON r.approval = a.approval AND r.event = 'requested'
  LEFT JOIN passed ON passed.approval = a.approval
WHERE a.event IN ('approved', 'denied', 'refused', 'break_glass_asked', 'break_glass_given')
  OR (a.event = 'grant_ended' AND json_extract(a.body, '$.approver.subject') IS NOT NULL);

CREATE VIEW sensitive_data AS
WITH met AS MATERIALIZED (
  SELECT json_extract(body, '$.operation') AS operation, json_extract(body, '$.masked') AS masked
  FROM entry WHERE +json_extract(body, '$.kind') = 'outcome' AND json_extract(body, '$.masked') IS NOT NULL),
asked AS MATERIALIZED (
  SELECT json_extract(body, '$.id') AS id, json_extract(body, '$.at') AS at, json_extract(body, '$.workload') AS workload,
    json_extract(body, '$.action') AS action, json_extract(body, '$.resource.id') AS resource
  FROM entry WHERE +json_extract(body, '$.kind') = 'operation')
SELECT c.key AS class, asked.workload AS workload, asked.action AS action, asked.resource AS resource,
  sum(c.value) AS masked, count(DISTINCT met.operation) AS operations, min(asked.at) AS first_at, max(asked.at) AS last_at
FROM met JOIN json_each(met.masked) AS c LEFT JOIN asked ON asked.id = met.operation GROUP BY 1, 2, 3, 4;

CREATE VIEW identity_lifecycle AS
SELECT seq AS entry, json_extract(body, '$.at') AS at,
  coalesce(json_extract(body, '$.workload'), json_extract(body, '$.detail.workload'), json_extract(body, '$.after'),
    json_extract(body, '$.before')) AS workload,
  coalesce(json_extract(body, '$.event'), json_extract(body, '$.detail.act') || ' asked for',
    CASE WHEN json_extract(body, '$.after') IS NULL THEN 'untag asked for' ELSE 'tag asked for' END) AS event,
  json_extract(body, '$.reason') AS reason, json_extract(body, '$.detail.subject') AS subject,
  json_extract(body, '$.detail.issuer') AS issuer, json_extract(body, '$.detail.on_behalf_of') AS on_behalf_of,
  json_extract(body, '$.detail.groups') AS groups, json_extract(body, '$.detail.token_id') AS token_id,
  json_extract(body, '$.detail.key_id') AS key_id, json_extract(body, '$.detail.expires_at') AS expires_at,
  json_extract(body, '$.detail.cgroup') AS cgroup,
  coalesce(json_extract(body, '$.actor.uid'), json_extract(body, '$.detail.actor.uid')) AS actor_uid,
  coalesce(json_extract(body, '$.actor.pid'), json_extract(body, '$.detail.actor.pid')) AS actor_pid,
  json_extract(body, '$.detail.message') AS message
FROM entry WHERE json_extract(body, '$.kind') IN ('workload', 'change')
  AND (json_extract(body, '$.kind') = 'workload' OR json_extract(body, '$.subject') IN ('tag', 'revocation'));

CREATE VIEW configuration_changes AS
WITH change AS MATERIALIZED (
  SELECT seq, body, json_extract(body, '$.kind') AS kind FROM entry
  WHERE json_extract(body, '$.kind') IN ('agent', 'change')
    AND (json_extract(body, '$.event') = 'started' OR json_extract(body, '$.subject') IN ('config', 'policy', 'key'))),
start AS MATERIALIZED (
  SELECT seq, json_extract(body, '$.detail.config_sha256') AS config, json_extract(body, '$.detail.policy_set') AS policy_set,
    lag(json_extract(body, '$.detail.config_sha256')) OVER (ORDER BY seq) AS config_before,
    lag(json_extract(body, '$.detail.policy_set')) OVER (ORDER BY seq) AS policy_set_before
  FROM change WHERE kind = 'agent')
SELECT seq AS entry, json_extract(body, '$.at') AS at, json_extract(body, '$.subject') AS subject,
  json_extract(body, '$.actor.uid') AS actor_uid, json_extract(body, '$.actor.pid') AS actor_pid,
  json_extract(body, '$.before') AS before, json_extract(body, '$.after') AS after,
  json_extract(body, '$.detail.added') AS added, json_extract(body, '$.detail.removed') AS removed,
  json_extract(body, '$.detail.changed') AS changed, json_extract(body, '$.detail.refused') AS refused
FROM change WHERE kind = 'change'
UNION ALL
SELECT start.seq, json_extract(body, '$.at'), 'config at start', NULL, NULL, config_before, config, NULL, NULL, NULL, NULL
FROM start JOIN change USING (seq)
UNION ALL
SELECT start.seq, json_extract(body, '$.at'), 'policy at start', NULL, NULL, policy_set_before, policy_set, NULL, NULL, NULL,
  NULL FROM start JOIN change USING (seq);

CREATE VIEW gaps_and_failures AS
WITH found AS MATERIALIZED (
  SELECT seq, body, json_extract(body, '$.kind') AS kind, json_extract(body, '$.event') AS event,
    json_extract(body, '$.reason') AS reason
  FROM entry WHERE CASE json_extract(body, '$.kind')
    WHEN 'gap' THEN 1
    WHEN 'agent' THEN json_extract(body, '$.event') IN ('recovered', 'notification_failed')
    WHEN 'workload' THEN json_extract(body, '$.event') IN ('failed', 'expired')
    WHEN 'change' THEN json_extract(body, '$.detail.refused') IS NOT NULL
      OR json_extract(body, '$.detail.event') IN ('failed', 'expired')
    WHEN 'ledger' THEN json_extract(body, '$.event') IN ('ship_failing', 'ship_rejected', 'budget_warning', 'budget_exhausted')
    WHEN 'operation' THEN json_extract(body, '$.decision') <> 'allow'
      AND json_extract(body, '$.reason') NOT IN ('policy_forbid', 'policy_default_deny', 'approval_denied')
    WHEN 'outcome' THEN json_extract(body, '$.reason') <> 'completed'
    WHEN 'session' THEN json_extract(body, '$.event') = 'close' AND json_extract(body, '$.reason') NOT IN ('completed',
      'peer_closed', 'policy_forbid', 'policy_default_deny', 'approval_denied')
    END)
SELECT seq AS entry, json_extract(body, '$.at') AS at, kind AS kind,
  CASE kind WHEN 'gap' THEN 'not recorded' WHEN 'operation' THEN 'not done' WHEN 'outcome' THEN 'not completed'
    WHEN 'session' THEN 'connection ended' WHEN 'change' THEN json_extract(body, '$.subject') || ' '
      || coalesce(json_extract(body, '$.detail.event'), 'refused') ELSE event END AS event,
  reason AS reason, json_extract(body, '$.workload') AS workload, json_extract(body, '$.from') AS lost_from,
  json_extract(body, '$.to') AS lost_to, json_extract(body, '$.detail.count') AS lost,
  coalesce(json_extract(body, '$.operation'), CASE kind WHEN 'operation' THEN json_extract(body, '$.id') END) AS operation,
  json_extract(body, '$.session') AS session,
  coalesce(json_extract(body, '$.message'), json_extract(body, '$.detail')) AS detail
FROM found
UNION ALL
SELECT entry, at, 'operation', 'no end on record', outcome, workload, NULL, NULL, NULL, id, session, NULL
FROM operations WHERE outcome = 'interrupted';

CREATE VIEW tls_state AS
WITH event AS MATERIALIZED (
  SELECT seq, body, json_extract(body, '$.session') AS session, json_extract(body, '$.event') AS event
  FROM entry WHERE +json_extract(body, '$.kind') = 'session')
SELECT o.session AS session, o.seq AS entry, json_extract(o.body, '$.at') AS at,
  json_extract(o.body, '$.workload') AS workload, json_extract(o.body, '$.destination.address') AS address,
  json_extract(o.body, '$.destination.port') AS port, json_extract(c.body, '$.tls.downstream.sni') AS name,
  json_extract(c.body, '$.protocol') AS protocol,
  CASE WHEN c.session IS NULL THEN 'open'
    WHEN json_extract(c.body, '$.reason') IN ('tls_handshake', 'upstream_untrusted') THEN 'refused'
    WHEN coalesce(json_extract(c.body, '$.bytes_up'), 0) + coalesce(json_extract(c.body, '$.bytes_down'), 0) = 0
      AND json_extract(c.body, '$.tls.upstream') IS NULL THEN 'nothing sent'
    WHEN json_extract(c.body, '$.protocol') = 'tcp' THEN 'passed through'
    WHEN json_extract(c.body, '$.tls.downstream') IS NOT NULL AND json_extract(c.body, '$.tls.upstream') IS NOT NULL
      THEN 'decrypted'
    WHEN json_extract(c.body, '$.tls.downstream') IS NOT NULL THEN 'decrypted, plain upstream'
    WHEN json_extract(c.body, '$.tls.upstream') IS NOT NULL THEN 'plain, encrypted upstream'
    ELSE 'plain' END AS state,
  json_extract(c.body, '$.tls.downstream.version') AS workload_version,
  json_extract(c.body, '$.tls.downstream.cipher') AS workload_cipher,
  json_extract(c.body, '$.tls.downstream.alpn') AS workload_alpn,
  json_extract(c.body, '$.tls.upstream.version') AS destination_version,
  json_extract(c.body, '$.tls.upstream.cipher') AS destination_cipher,
  json_extract(c.body, '$.tls.upstream.alpn') AS destination_alpn,
  json_extract(c.body, '$.tls.upstream.chain_sha256') AS destination_chain_sha256,
  json_extract(c.body, '$.reason') AS reason
FROM event AS o LEFT JOIN event AS c ON c.session = o.session AND c.event = 'close' WHERE o.event = 'open';

CREATE VIEW destinations AS
WITH event AS MATERIALIZED (
  SELECT body, json_extract(body, '$.session') AS session, json_extract(body, '$.event') AS event
  FROM entry WHERE +json_extract(body, '$.kind') = 'session')
SELECT json_extract(o.body, '$.workload') AS workload, json_extract(o.body, '$.destination.address') AS address,
  json_extract(o.body, '$.destination.port') AS port, json_extract(c.body, '$.tls.downstream.sni') AS name,
  json_extract(c.body, '$.protocol') AS protocol, count(*) AS sessions,
  sum(json_extract(c.body, '$.operations')) AS operations, sum(json_extract(c.body, '$.bytes_up')) AS bytes_up,
  sum(json_extract(c.body, '$.bytes_down')) AS bytes_down, min(json_extract(o.body, '$.at')) AS first_at,
  max(json_extract(o.body, '$.at')) AS last_at, json_group_array(DISTINCT json_extract(c.body, '$.reason')) AS reasons
FROM event AS o LEFT JOIN event AS c ON c.session = o.session AND c.event = 'close' WHERE o.event = 'open'
GROUP BY 1, 2, 3, 4, 5;

CREATE VIEW credentials_used AS
WITH used AS MATERIALIZED (
  SELECT seq, body, json_extract(body, '$.operation') AS operation FROM entry
  WHERE +json_extract(body, '$.kind') = 'outcome' AND json_extract(body, '$.credentials') IS NOT NULL),
asked AS MATERIALIZED (
  SELECT json_extract(body, '$.id') AS id, json_extract(body, '$.identity.subject') AS subject,
    json_extract(body, '$.action') AS action, json_extract(body, '$.resource.id') AS resource,
    json_extract(body, '$.session') AS session
  FROM entry WHERE +json_extract(body, '$.kind') = 'operation')
SELECT used.seq AS entry, json_extract(used.body, '$.at') AS at, json_extract(used.body, '$.workload') AS workload,
  asked.subject AS subject, json_extract(c.value, '$.reference') AS credential, json_extract(c.value, '$.version') AS version,
  json_extract(c.value, '$.expires_at') AS expires_at, asked.action AS action, asked.resource AS resource,
  json_extract(used.body, '$.reason') AS outcome, used.operation AS operation, asked.session AS session
FROM used JOIN json_each(used.body, '$.credentials') AS c LEFT JOIN asked ON asked.id = used.operation;

CREATE VIEW credential_events AS
SELECT seq AS entry, json_extract(body, '$.at') AS at, json_extract(body, '$.detail.reference') AS credential,
  json_extract(body, '$.detail.event') AS event, json_extract(body, '$.workload') AS workload,
  json_extract(body, '$.before') AS before, json_extract(body, '$.after') AS after,
  json_extract(body, '$.detail.user') AS user, json_extract(body, '$.detail.expires_at') AS expires_at,
  json_extract(body, '$.detail.message') AS message
FROM entry WHERE json_extract(body, '$.kind') = 'change' AND json_extract(body, '$.subject') = 'credential';

CREATE VIEW exports AS
SELECT seq AS entry, json_extract(body, '$.at') AS at, json_extract(body, '$.actor.uid') AS actor_uid,
  json_extract(body, '$.actor.login') AS actor_login, json_extract(body, '$.actor.pid') AS actor_pid,
  json_extract(body, '$.detail.file') AS file, json_extract(body, '$.detail.sha256') AS sha256,
  json_extract(body, '$.detail.bytes') AS bytes, json_extract(body, '$.detail.asked.since') AS since,
  json_extract(body, '$.detail.asked.until') AS until, json_extract(body, '$.detail.asked.workload') AS workload,
  json_extract(body, '$.detail.asked.session') AS session, json_extract(body, '$.detail.asked.controls') AS controls,
  json_extract(body, '$.detail.exported.first') AS first_entry, json_extract(body, '$.detail.exported.entries') AS tree_size,
  json_extract(body, '$.detail.exported.root') AS tree_root, json_extract(body, '$.detail.exported.selected') AS selected,
  json_extract(body, '$.detail.exported.frames') AS frames
FROM entry WHERE json_extract(body, '$.kind') = 'ledger' AND json_extract(body, '$.event') = 'exported';
