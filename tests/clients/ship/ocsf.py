"""Validates OCSF events, one JSON object a line on standard input, by the schemas that schema.ocsf.io publishes.

The schemas come from the package ocsf-json-schema, which carries them whole. Each event is held against the version
that it names, and against each later 1.x: minor versions only add. Prints one line for each class met; anything wrong
is told and makes the exit status 1.
"""

import collections
import functools
import json
import sys

import jsonschema
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema, get_packaged_versions

# Attributes by which an event says the same twice, once as a number and once in words.
PAIRS = [
    ("activity_id", "activity_name"),
    ("category_uid", "category_name"),
    ("class_uid", "class_name"),
    ("severity_id", "severity"),
    ("status_id", "status"),
    ("action_id", "action"),
    ("disposition_id", "disposition"),
]


def order(version):
    return tuple(int(part) for part in version.split("."))


@functools.cache
def source(version):
    return get_ocsf_schema(version)


@functools.cache
def validator(version, uid, profiles):
    schema = OcsfJsonSchemaEmbedded(source(version))
    made = schema.get_class_schema(schema.lookup_class_name_from_uid(uid), list(profiles))
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


@functools.cache
def of_class(version, uid):
    return next(c for c in source(version)["classes"].values() if c.get("uid") == uid)


def flaws(event, version):
    """What is wrong with it by one version."""
    profiles = tuple(event["metadata"].get("profiles", []))
    declared = of_class(version, event["class_uid"])
    for profile in profiles:
        if profile not in declared.get("profiles", []):
            yield f"metadata.profiles: the class has no profile {profile}"
    for error in validator(version, event["class_uid"], profiles).iter_errors(event):
        yield f"{error.json_path}: {error.message[:300]}"
    if event["type_uid"] != event["class_uid"] * 100 + event["activity_id"]:
        yield "type_uid is not class_uid * 100 + activity_id"
    # Words have to be those of the number, but where the number says "other".
    for number, word in PAIRS:
        known = (declared["attributes"].get(number) or {}).get("enum") or {}
        caption = (known.get(str(event.get(number))) or {}).get("caption")
        if word in event and caption not in (None, "Other") and event[word] != caption:
            yield f"{word}: {event[word]!r} is not {caption!r}"


def main():
    newer = {v for v in get_packaged_versions() if "-" not in v}
    met, wrong = collections.Counter(), 0
    for line in sys.stdin:
        event = json.loads(line)
        stated = event["metadata"]["version"]
        versions = sorted((v for v in newer if order(v) >= order(stated)), key=order)
        if stated not in versions or len(versions) < 2:
            print(f"no schema of version {stated}")
            return 1
        met[event["class_name"]] += 1
        for version in versions:
            for flaw in flaws(event, version):
                wrong += 1
                if wrong <= 40:
                    print(f"{version} {event['class_name']} {event['metadata']['event_code']}: {flaw}")
    for name, count in sorted(met.items()):
        print(f"{name}\t{count}")
    return 1 if wrong or not met else 0


if __name__ == "__main__":
    sys.exit(main())
