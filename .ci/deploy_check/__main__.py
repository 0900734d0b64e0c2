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
    base, example = kustomize.build(BASE), kustomize.build(EXAMPLE)
    default, configured = chart.render({}), chart.render(chart.example_values())
    # Another name shows what is written out where the release's name belongs.
    other = chart.render(chart.example_values(), name="accounts")

    found = chart.faults({}) + chart.faults(chart.example_values()) + metrics.faults() + compose.faults()
    for way, objects in {"base": base, "example": example, "chart": default, "chart, example": configured, "chart, accounts": other}.items():
        inner = [fault for thing in objects for fault in schemas.faults(thing)] + rules.faults(objects)
        found += [f"{way}: {fault}" for fault in inner]
    for container in kustomize.containers(base):
        container["image"] += ":0.1.0"
    found += [f"base and chart differ: {fault}" for fault in same.faults(base, default)]
    found += [f"example and chart differ: {fault}" for fault in same.faults(example, configured)]
    found += [
        f"chart, accounts: {thing['kind']} {thing['metadata']['name']} is not named for its release"
        for thing in other
        if not thing["metadata"]["name"].startswith("accounts-user-service")
    ]
    if not chart.refuses({"resource": {}}):
        found.append("the chart takes values that it does not know")

    for fault in found:
        print(fault, file=sys.stderr)
    print(f"{len(base)} objects in the base, {len(example)} in the example: {len(found)} faults")
    return 1 if found else 0


sys.exit(main())
