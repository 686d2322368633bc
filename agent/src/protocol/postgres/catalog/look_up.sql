-- What the catalog asks of the session's own database. Runs inside the workload's session, whose search_path,
-- operators and functions the workload controls: every name is qualified, operators too, no IN, no CASE with an
-- argument, no DISTINCT FROM (they find their operator by search_path). Raises no error whatever the parameters.
-- $1, $2 schemas ('' without one) and names of relations; $3 relation OIDs; $4 function names; $5 type OIDs.
WITH RECURSIVE asked(s, n, oid) AS (
  SELECT q.s, q.n, CASE
    WHEN q.n OPERATOR(pg_catalog.=) ''::pg_catalog.text THEN NULL::pg_catalog.oid
    WHEN q.s OPERATOR(pg_catalog.=) ''::pg_catalog.text
      THEN pg_catalog.to_regclass(pg_catalog.quote_ident(q.n))::pg_catalog.oid
    ELSE (SELECT c.oid FROM pg_catalog.pg_namespace ns
          JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) ns.oid
          WHERE c.relname OPERATOR(pg_catalog.=) q.n::pg_catalog.name
            AND ns.oid OPERATOR(pg_catalog.=) CASE
              WHEN q.s OPERATOR(pg_catalog.=) 'pg_temp'::pg_catalog.text THEN pg_catalog.pg_my_temp_schema()
              ELSE (SELECT x.oid FROM pg_catalog.pg_namespace x
                    WHERE x.nspname OPERATOR(pg_catalog.=) q.s::pg_catalog.name) END
          LIMIT 1) END
  FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) AS q(s, n)
), wanted(oid) AS (
  SELECT a.oid FROM asked a WHERE a.oid IS NOT NULL
  UNION
  SELECT o.oid FROM pg_catalog.unnest($3::pg_catalog.oid[]) AS o(oid)
  UNION
  SELECT x.refobjid FROM wanted w CROSS JOIN LATERAL (
    SELECT d.refobjid FROM pg_catalog.pg_rewrite r
    JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 2618::pg_catalog.oid
      AND d.objid OPERATOR(pg_catalog.=) r.oid AND d.refclassid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
    WHERE r.ev_class OPERATOR(pg_catalog.=) w.oid AND r.ev_type OPERATOR(pg_catalog.=) '1'::pg_catalog."char"
    LIMIT 1000) x
  WHERE w.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
), relations AS MATERIALIZED (
  SELECT c.oid, c.relname, c.relnamespace, c.relkind, c.relhasrules
  FROM (SELECT w.oid FROM wanted w LIMIT 100) w
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) w.oid
), plain(equals) AS (
  -- pg_get_viewdef asks pg_rewrite by `ev_class = $1 AND rulename = $2`, with whatever `=` the search_path has.
  SELECT NOT EXISTS (SELECT 1 FROM pg_catalog.pg_operator o
    WHERE o.oprname OPERATOR(pg_catalog.=) '='::pg_catalog.name AND o.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
      AND ((o.oprleft OPERATOR(pg_catalog.=) 26::pg_catalog.oid AND o.oprright OPERATOR(pg_catalog.=) 26::pg_catalog.oid)
        OR (o.oprleft OPERATOR(pg_catalog.=) 19::pg_catalog.oid AND o.oprright OPERATOR(pg_catalog.=) 19::pg_catalog.oid)))
), opaque_operators AS MATERIALIZED (
  SELECT o.oid, o.oprname FROM pg_catalog.pg_operator o
  JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) o.oprcode::pg_catalog.oid
  WHERE o.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
    AND p.prolang OPERATOR(pg_catalog.<>) 12::pg_catalog.oid AND p.prolang OPERATOR(pg_catalog.<>) 13::pg_catalog.oid
), seeds(oid) AS (
  SELECT t.oid FROM pg_catalog.unnest($5::pg_catalog.oid[]) AS t(oid)
  UNION
  SELECT s.atttypid FROM (
    SELECT x.atttypid FROM relations r CROSS JOIN LATERAL (
      SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid OPERATOR(pg_catalog.=) r.oid
        AND a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2 AND a.atttypid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
      LIMIT 100) x
    LIMIT 50) s
), types(oid) AS (
  SELECT s.oid FROM seeds s
  UNION
  -- One level of what they are made of; what is deeper is asked for when it is needed.
  SELECT n.oid FROM (SELECT s.oid FROM seeds s LIMIT 50) s CROSS JOIN LATERAL (
    SELECT m.oid FROM pg_catalog.pg_type t CROSS JOIN LATERAL (
      SELECT t.typelem AS oid UNION ALL SELECT t.typbasetype
      UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
        WHERE a.attrelid OPERATOR(pg_catalog.=) t.typrelid AND a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2
    ) m WHERE t.oid OPERATOR(pg_catalog.=) s.oid AND m.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid LIMIT 100
  ) n
)
SELECT pg_catalog.json_build_object(
  'schema', pg_catalog.current_schema(),
  'names', (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(a.s, a.n, a.oid)) FROM asked a),
  'relations', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
    'oid', r.oid,
    'schema', CASE WHEN r.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() THEN 'pg_temp'::pg_catalog.name
      ELSE ns.nspname END,
    'name', r.relname, 'kind', r.relkind,
    'rules', r.relhasrules AND EXISTS (SELECT 1 FROM pg_catalog.pg_rewrite w
      WHERE w.ev_class OPERATOR(pg_catalog.=) r.oid AND w.ev_type OPERATOR(pg_catalog.<>) '1'::pg_catalog."char"),
    'columns', (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(a.attnum, a.attname, a.atttypid, a.atttypmod,
        CASE WHEN a.attgenerated OPERATOR(pg_catalog.<>) ''::pg_catalog."char" THEN coalesce((
          SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d
          WHERE d.adrelid OPERATOR(pg_catalog.=) r.oid AND d.adnum OPERATOR(pg_catalog.=) a.attnum), '') END)
        ORDER BY a.attnum)
      FROM pg_catalog.pg_attribute a WHERE a.attrelid OPERATOR(pg_catalog.=) r.oid
        AND a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2 AND NOT a.attisdropped),
    'family', (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(f.nspname, f.relname)) FROM (
      WITH RECURSIVE kin(oid, up) AS (
        SELECT i.inhparent, true FROM pg_catalog.pg_inherits i WHERE i.inhrelid OPERATOR(pg_catalog.=) r.oid
        UNION
        SELECT i.inhrelid, false FROM pg_catalog.pg_inherits i WHERE i.inhparent OPERATOR(pg_catalog.=) r.oid
        UNION
        SELECT n.oid, k.up FROM kin k CROSS JOIN LATERAL (
          SELECT i.inhparent AS oid FROM pg_catalog.pg_inherits i
            WHERE k.up AND i.inhrelid OPERATOR(pg_catalog.=) k.oid
          UNION ALL
          SELECT i.inhrelid FROM pg_catalog.pg_inherits i
            WHERE NOT k.up AND i.inhparent OPERATOR(pg_catalog.=) k.oid
          LIMIT 10000) n
      )
      SELECT x.nspname, x.relname FROM (SELECT kin.oid FROM kin ORDER BY kin.up DESC LIMIT 201) k
      CROSS JOIN LATERAL (SELECT kn.nspname, kc.relname FROM pg_catalog.pg_class kc
        JOIN pg_catalog.pg_namespace kn ON kn.oid OPERATOR(pg_catalog.=) kc.relnamespace
        WHERE kc.oid OPERATOR(pg_catalog.=) k.oid LIMIT 1) x) f),
    'view', CASE WHEN r.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
        AND (r.relkind OPERATOR(pg_catalog.=) 'v'::pg_catalog."char" OR r.relkind OPERATOR(pg_catalog.=) 'm'::pg_catalog."char")
      THEN (SELECT pg_catalog.json_build_object(
        'text', CASE WHEN plain.equals THEN (SELECT CASE WHEN pg_catalog.length(v.d) OPERATOR(pg_catalog.<=) 65536
          THEN v.d END FROM (SELECT pg_catalog.pg_get_viewdef(r.oid) AS d) v) END,
        'relations', (SELECT pg_catalog.json_agg(u.refobjid) FROM (
          SELECT d.refobjid FROM pg_catalog.pg_depend d
          WHERE d.classid OPERATOR(pg_catalog.=) 2618::pg_catalog.oid AND d.objid OPERATOR(pg_catalog.=) w.oid
            AND d.refclassid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
            AND d.refobjid OPERATOR(pg_catalog.<>) r.oid GROUP BY d.refobjid) u),
        'functions', (SELECT pg_catalog.json_agg(u.refobjid) FROM (
          SELECT d.refobjid FROM pg_catalog.pg_depend d
          WHERE d.classid OPERATOR(pg_catalog.=) 2618::pg_catalog.oid AND d.objid OPERATOR(pg_catalog.=) w.oid
            AND d.refclassid OPERATOR(pg_catalog.=) 1255::pg_catalog.oid GROUP BY d.refobjid) u))
        FROM pg_catalog.pg_rewrite w WHERE w.ev_class OPERATOR(pg_catalog.=) r.oid
          AND w.ev_type OPERATOR(pg_catalog.=) '1'::pg_catalog."char" LIMIT 1) END
    ))
    FROM relations r CROSS JOIN plain
    JOIN pg_catalog.pg_namespace ns ON ns.oid OPERATOR(pg_catalog.=) r.relnamespace),
  'functions', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
    'oid', p.oid, 'schema', ns.nspname, 'name', p.proname, 'visible', pg_catalog.pg_function_is_visible(p.oid),
    'kind', p.prokind, 'volatility', p.provolatile, 'set', p.proretset,
    'compiled', CASE WHEN p.prokind OPERATOR(pg_catalog.=) 'a'::pg_catalog."char" THEN NOT EXISTS (
        SELECT 1 FROM pg_catalog.pg_aggregate g JOIN pg_catalog.pg_proc q
          ON q.oid OPERATOR(pg_catalog.=) g.aggtransfn::pg_catalog.oid
          OR q.oid OPERATOR(pg_catalog.=) g.aggfinalfn::pg_catalog.oid
          OR q.oid OPERATOR(pg_catalog.=) g.aggcombinefn::pg_catalog.oid
          OR q.oid OPERATOR(pg_catalog.=) g.aggmtransfn::pg_catalog.oid
          OR q.oid OPERATOR(pg_catalog.=) g.aggminvtransfn::pg_catalog.oid
          OR q.oid OPERATOR(pg_catalog.=) g.aggmfinalfn::pg_catalog.oid
        WHERE p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
          AND g.aggfnoid::pg_catalog.oid OPERATOR(pg_catalog.=) p.oid
          AND q.prolang OPERATOR(pg_catalog.<>) 12::pg_catalog.oid AND q.prolang OPERATOR(pg_catalog.<>) 13::pg_catalog.oid)
      ELSE p.prolang OPERATOR(pg_catalog.=) 12::pg_catalog.oid OR p.prolang OPERATOR(pg_catalog.=) 13::pg_catalog.oid
        -- What an extension of the superuser's brings along in SQL and calls immutable (citext: replace, translate and
        -- so on) is as its compiled code, as long as no operator in it can be made to mean another one.
        OR (p.prolang OPERATOR(pg_catalog.=) 14::pg_catalog.oid AND p.provolatile OPERATOR(pg_catalog.=) 'i'::pg_catalog."char"
          AND EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid OPERATOR(pg_catalog.=) 1255::pg_catalog.oid
            AND d.objid OPERATOR(pg_catalog.=) p.oid AND d.refclassid OPERATOR(pg_catalog.=) 3079::pg_catalog.oid
            AND d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog."char")
          AND EXISTS (SELECT 1 FROM pg_catalog.pg_roles w WHERE w.oid OPERATOR(pg_catalog.=) p.proowner AND w.rolsuper)
          AND NOT EXISTS (SELECT 1 FROM opaque_operators)) END,
    'args', p.pronargs, 'defaults', p.pronargdefaults,
    'variadic', p.provariadic OPERATOR(pg_catalog.<>) 0::pg_catalog.oid,
    'returns', p.prorettype,
    'domain', EXISTS (SELECT 1 FROM pg_catalog.pg_type t WHERE t.oid OPERATOR(pg_catalog.=) p.prorettype
      AND t.typtype OPERATOR(pg_catalog.=) 'd'::pg_catalog."char"),
    'outs', (SELECT pg_catalog.json_agg(coalesce(p.proargnames[o.i], '') ORDER BY o.i)
      FROM pg_catalog.unnest(p.proargmodes) WITH ORDINALITY AS o(m, i)
      WHERE o.m OPERATOR(pg_catalog.=) 'o'::pg_catalog."char" OR o.m OPERATOR(pg_catalog.=) 'b'::pg_catalog."char"
        OR o.m OPERATOR(pg_catalog.=) 't'::pg_catalog."char"),
    'fields', (SELECT pg_catalog.json_agg(a.attname ORDER BY a.attnum)
      FROM pg_catalog.pg_type t JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) t.typrelid
      WHERE t.oid OPERATOR(pg_catalog.=) p.prorettype AND t.typrelid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
        AND a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2 AND NOT a.attisdropped)
    ))
    FROM (
      SELECT x.oid FROM pg_catalog.unnest($4::pg_catalog.text[]) AS f(n)
      CROSS JOIN LATERAL (SELECT y.oid FROM pg_catalog.pg_proc y
        WHERE y.proname OPERATOR(pg_catalog.=) f.n::pg_catalog.name LIMIT 129) x
      UNION
      SELECT x.refobjid FROM relations r CROSS JOIN LATERAL (
        SELECT d.refobjid FROM pg_catalog.pg_rewrite w
        JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 2618::pg_catalog.oid
          AND d.objid OPERATOR(pg_catalog.=) w.oid AND d.refclassid OPERATOR(pg_catalog.=) 1255::pg_catalog.oid
        WHERE w.ev_class OPERATOR(pg_catalog.=) r.oid AND w.ev_type OPERATOR(pg_catalog.=) '1'::pg_catalog."char"
        LIMIT 1000) x
      WHERE r.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
    ) u
    JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) u.oid
    JOIN pg_catalog.pg_namespace ns ON ns.oid OPERATOR(pg_catalog.=) p.pronamespace),
  'types', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
    'oid', t.oid, 'schema', ns.nspname, 'name', t.typname, 'kind', t.typtype, 'base', t.typbasetype,
    'base_mod', t.typtypmod, 'text_like', t.typcategory OPERATOR(pg_catalog.=) 'S'::pg_catalog."char",
    'element', CASE WHEN t.typlen OPERATOR(pg_catalog.=) (-1)::pg_catalog.int2 THEN t.typelem ELSE 0::pg_catalog.oid END,
    'delimiter', t.typdelim,
    'range', CASE WHEN t.typtype OPERATOR(pg_catalog.=) 'm'::pg_catalog."char" THEN (
      SELECT g.rngtypid FROM pg_catalog.pg_range g WHERE t.oid::pg_catalog.text OPERATOR(pg_catalog.=)
        (pg_catalog.row_to_json(g) OPERATOR(pg_catalog.->>) 'rngmultitypid'::pg_catalog.text) LIMIT 1) END,
    'subtype', (SELECT g.rngsubtype FROM pg_catalog.pg_range g
      WHERE g.rngtypid OPERATOR(pg_catalog.=) t.oid OR t.oid::pg_catalog.text OPERATOR(pg_catalog.=)
        (pg_catalog.row_to_json(g) OPERATOR(pg_catalog.->>) 'rngmultitypid'::pg_catalog.text) LIMIT 1),
    'fields', (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(a.attname, a.atttypid, a.atttypmod) ORDER BY a.attnum)
      FROM pg_catalog.pg_attribute a WHERE t.typrelid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
        AND a.attrelid OPERATOR(pg_catalog.=) t.typrelid
        AND a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2 AND NOT a.attisdropped)))
    FROM (SELECT y.oid FROM types y LIMIT 100) y
    JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) y.oid
    JOIN pg_catalog.pg_namespace ns ON ns.oid OPERATOR(pg_catalog.=) t.typnamespace),
  'operators', (SELECT pg_catalog.json_agg(u.oprname) FROM (
    SELECT o.oprname FROM opaque_operators o GROUP BY o.oprname) u),
  -- Domains whose checks call code, or use an operator that does.
  'domains', (SELECT pg_catalog.json_agg(u.typname) FROM (
    SELECT t.typname FROM pg_catalog.pg_constraint k
    JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) k.contypid
    JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 2606::pg_catalog.oid
      AND d.objid OPERATOR(pg_catalog.=) k.oid
    WHERE k.contypid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
      AND ((d.refclassid OPERATOR(pg_catalog.=) 1255::pg_catalog.oid AND EXISTS (SELECT 1 FROM pg_catalog.pg_proc p
          WHERE p.oid OPERATOR(pg_catalog.=) d.refobjid AND p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
            AND p.prolang OPERATOR(pg_catalog.<>) 12::pg_catalog.oid AND p.prolang OPERATOR(pg_catalog.<>) 13::pg_catalog.oid))
        OR (d.refclassid OPERATOR(pg_catalog.=) 2617::pg_catalog.oid AND EXISTS (SELECT 1 FROM opaque_operators o
          WHERE o.oid OPERATOR(pg_catalog.=) d.refobjid)))
    GROUP BY t.typname) u),
  'casts', EXISTS (SELECT 1 FROM pg_catalog.pg_cast c
    JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) c.castfunc
    WHERE c.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
      AND p.prolang OPERATOR(pg_catalog.<>) 12::pg_catalog.oid AND p.prolang OPERATOR(pg_catalog.<>) 13::pg_catalog.oid)
)::pg_catalog.text
