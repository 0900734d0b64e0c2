"""Objects against the schemas of the API: those of Kubernetes, and the parts that are used of others' own kinds."""

import json
from pathlib import Path

import jsonschema
import kubernetes_validate

# The oldest version that the chart takes, and the newest that there are schemas of.
VERSIONS = ("1.27", kubernetes_validate.latest_version())
CUSTOM = json.loads((Path(__file__).parent / "custom.json").read_text())


def faults(thing):
    """What is wrong with an object, a sentence each."""
    name = f"{thing['kind']} {thing['metadata']['name']}"
    if thing["kind"] in CUSTOM:
        errors = jsonschema.Draft202012Validator(CUSTOM[thing["kind"]]).iter_errors(thing)
        return [f"{name}: {error.json_path}: {error.message}" for error in errors]
    found = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            path = ".".join(str(part) for part in error.path)
            found.append(f"{name}: {path}: {error.message} (Kubernetes {version})")
    return found
