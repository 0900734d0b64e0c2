"""The part of Kustomize that deploy/ uses: resources, components, images, a namespace, strategic patches by file.

A kustomization that uses more of it fails here, so that no check passes over what it does not understand.
"""

from pathlib import Path

import yaml

KNOWN = {"apiVersion", "kind", "namespace", "resources", "components", "images", "patches"}
CLUSTER_WIDE = {"Namespace"}
# The fields by which the API merges lists, as its schemas say; all other lists are replaced.
MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    ("Service", "ports"): "port",
    ("Deployment", "ports"): "containerPort",
}


def documents(file):
    """The documents of a YAML file."""
    return [document for document in yaml.safe_load_all(Path(file).read_text()) if document]


def build(folder):
    """The objects that a kustomization makes."""
    return _apply(Path(folder), [])


def _apply(folder, objects):
    (wanted,) = documents(folder / "kustomization.yaml")
    unknown = wanted.keys() - KNOWN
    if unknown:
        raise ValueError(f"{folder}: this check does not know {sorted(unknown)}")
    for name in wanted.get("resources", []):
        path = folder / name
        objects = objects + (build(path) if path.is_dir() else documents(path))
    for name in wanted.get("components", []):
        objects = _apply(folder / name, objects)
    for entry in wanted.get("patches", []):
        for patch in documents(folder / entry["path"]):
            objects = _patched(objects, patch, folder / entry["path"])
    for image in wanted.get("images", []):
        for container in containers(objects):
            if container["image"] == image["name"]:
                container["image"] = f"{image['newName']}:{image['newTag']}"
    if "namespace" in wanted:
        for thing in objects:
            if thing["kind"] not in CLUSTER_WIDE:
                thing["metadata"]["namespace"] = wanted["namespace"]
    return objects


def containers(objects):
    """All containers of the objects, those of initialisation too."""
    pods = [thing["spec"]["template"]["spec"] for thing in objects if thing["kind"] == "Deployment"]
    return [container for pod in pods for container in pod.get("initContainers", []) + pod["containers"]]


def _patched(objects, patch, file):
    def is_target(thing):
        return all(thing[key] == patch[key] for key in ("apiVersion", "kind")) and (
            thing["metadata"]["name"] == patch["metadata"]["name"]
        )

    if sum(map(is_target, objects)) != 1:
        raise ValueError(f"{file}: patches nothing")
    return [_merged(patch["kind"], thing, patch) if is_target(thing) else thing for thing in objects]


def _merged(kind, old, new):
    merged = dict(old)
    for key, value in new.items():
        merge_key = MERGE_KEYS.get(key) or MERGE_KEYS.get((kind, key))
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(old.get(key), dict):
            merged[key] = _merged(kind, old[key], value)
        elif merge_key and isinstance(old.get(key), list):
            merged[key] = _merged_list(kind, merge_key, old[key], value)
        else:
            merged[key] = value
    return merged


def _merged_list(kind, merge_key, old, new):
    patches = {item[merge_key]: item for item in new}
    kept = [_merged(kind, item, patches.pop(item[merge_key], {})) for item in old]
    return kept + list(patches.values())
