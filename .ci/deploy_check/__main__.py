"""Checks deploy/ and prints what is wrong with it."""

import sys

import chart
import compose
import kustomize
import metrics
import rules
import same
import schemas

BASE = "deploy/kubernetes/base"
EXAMPLE = "deploy/kubernetes/overlays/example"


def main():
    """Prints all faults, and tells by the exit code whether there are any."""
    values = chart.example_values()
    ways = {
        "base": kustomize.build(BASE),
        "example": kustomize.build(EXAMPLE),
        "chart": chart.render({}),
        "chart, example": chart.render(values),
        # Another name shows what is written out where the release's name belongs.
        "chart, accounts": chart.render(values, name="accounts"),
    }
    found = chart.faults({}) + chart.faults(values) + metrics.faults() + compose.faults()
    for way, objects in ways.items():
        inner = [fault for thing in objects for fault in schemas.faults(thing)] + rules.faults(objects)
        found += [f"{way}: {fault}" for fault in inner]
    found += differences(ways)
    if not chart.refuses({"resource": {}}):
        found.append("the chart takes values that it does not know")

    for fault in found:
        print(fault, file=sys.stderr)
    counts = ", ".join(f"{len(objects)} in {way!r}" for way, objects in ways.items())
    print(f"deploy: objects: {counts}; {len(found)} faults")
    return 1 if found else 0


def differences(ways):
    """Where manifests and chart part, a sentence each."""
    # The base leaves the image's tag to the overlay.
    for container in kustomize.containers(ways["base"]):
        container["image"] += f":{chart.app_version()}"
    found = [f"base and chart differ: {fault}" for fault in same.faults(ways["base"], ways["chart"])]
    found += [f"example and chart differ: {fault}" for fault in same.faults(ways["example"], ways["chart, example"])]
    names = [f"{thing['kind']} {thing['metadata']['name']}" for thing in ways["chart, accounts"]]
    found += [f"{name} is not named for its release" for name in names if " accounts-user-service" not in name]
    return found


sys.exit(main())
