"""Reads CEF with a parser that others made (pycef), and with one that takes the format at its word, and holds what they
read against the entries. Standard input: entries, one a line; a line with --; CEF, one a line."""

import json
import re
import sys

import pycef

KEY = re.compile(r"(?:^|(?<= ))([A-Za-z0-9_]+)=")
CUSTOM = {"cs1": "Workload", "cs2": "Policies", "cs3": "Session", "cs4": "Correlation", "cn1": "Ledger Sequence"}


def unescape(text, line_breaks):
    breaks = {"n": "\n", "r": "\r"} if line_breaks else {}
    return re.sub(r"\\(.)", lambda m: breaks.get(m[1], m[1]), text)


def strict(line):
    """Header and extension as the format's description has them."""
    fields, at = [], 0
    for _ in range(7):
        found = re.compile(r"((?:[^|\\]|\\[|\\])*)\|").match(line, at)
        assert found, f"no header field at {line[at:at + 40]!r}"
        fields.append(unescape(found[1], False))
        at = found.end()
    assert fields[0] == "CEF:0" and fields[1:3] == ["Portcullis", "Portcullis"], fields
    assert fields[6] in {str(n) for n in range(11)}, fields
    rest, members = line[at:], {}
    # An equals sign within a value is escaped, so every bare one ends a key.
    keys = [m for m in KEY.finditer(rest)]
    assert keys and keys[0].start() == 0, rest
    for here, following in zip(keys, keys[1:] + [None]):
        value = rest[here.end() : following.start() - 1 if following else len(rest)]
        assert not re.search(r"(?<!\\)(?:\\\\)*=", value), f"a bare = in {value!r}"
        assert here[1] not in members, f"{here[1]} twice"
        members[here[1]] = unescape(value, True)
    return fields, members


def main():
    entries, _, lines = sys.stdin.read().partition("\n--\n")
    entries = {e["id"]: e for e in map(json.loads, entries.splitlines())}
    checked = 0
    for line in lines.splitlines():
        fields, members = strict(line)
        theirs = pycef.parse(line)
        assert theirs, f"pycef cannot read {line!r}"
        assert theirs["DeviceEventClassID"] == fields[4] and theirs["Name"] == fields[5], theirs
        entry = entries.get(members["externalId"])
        if entry is None:
            continue
        checked += 1
        assert members["cat"] == entry["kind"]
        for key, label in CUSTOM.items():
            assert (key in members) == (key + "Label" in members)
            assert members.get(key + "Label", label) == label
        assert members.get("reason") == entry.get("reason"), members
        assert entry.get("workload") in (members.get("cs1"), None)
        if entry["kind"] == "operation":
            assert fields[4] == f"operation.{entry['decision']}.{entry['action']}"
            assert members["act"] == entry["decision"]
            assert int(members["dpt"]) == entry["destination"]["port"]
            address = entry["destination"]["address"]
            assert members["c6a3" if ":" in address else "dst"] == address
            assert members["outcome"] == ("success" if entry["decision"] == "allow" else "failure")
        if entry["kind"] == "outcome":
            assert (int(members["in"]), int(members["out"])) == (entry["bytes_down"], entry["bytes_up"])
    assert checked == len(entries), f"{checked} of {len(entries)}"
    print(f"{checked} checked")


main()
