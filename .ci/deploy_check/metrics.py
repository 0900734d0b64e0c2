"""The alerts and the dashboard against the table of metrics and the pages of the runbook."""

import json
import re
from pathlib import Path

from kustomize import documents

NAME = re.compile(r"\b(?:rpc_server|user_service)_[a-z_]+")
OF_HISTOGRAM = re.compile(r"_(bucket|sum|count)$")


def faults():
    """What is used and not explained, or explained and not used, a sentence each."""
    runbook = Path("deploy/README.md").read_text()
    (alerts,) = documents("deploy/alerts.yaml")
    rules = [rule for group in alerts["groups"] for rule in group["rules"]]
    dashboard = json.loads(Path("deploy/grafana.json").read_text())
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]

    known = {NAME.search(line).group() for line in runbook.splitlines() if line.startswith("| `") and NAME.search(line)}
    used = {name for text in [rule["expr"] for rule in rules] + shown for name in _names(text)}
    found = [f"{name} is used, and is not in the table of metrics" for name in sorted(used - known)]
    found += [f"{name} is in the table of metrics, and nothing uses it" for name in sorted(known - used)]

    explained = set(re.findall(r"^### (UserService\w+)$", runbook, re.MULTILINE))
    names = {rule["alert"] for rule in rules}
    found += [f"{name} and the runbook: one is without the other" for name in sorted(names ^ explained)]
    found += [f"{rule['alert']}: no severity" for rule in rules if not rule["labels"].get("severity")]
    ids = [panel["id"] for panel in dashboard["panels"]]
    if len(ids) != len(set(ids)):
        found.append("two panels of the dashboard have one id")
    return found


def _names(text):
    return {OF_HISTOGRAM.sub("", name) for name in NAME.findall(text)}
