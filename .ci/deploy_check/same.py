"""Whether manifests and chart say the same."""

# What the chart adds: labels on every object, an annotation on the pods. Its release gives the namespace.
ADDED = {
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "helm.sh/chart",
    "checksum/config",
    "namespace",
}


def faults(manifests, chart):
    """Where they differ, a sentence each."""
    left, right = _by_name(manifests), _by_name(chart)
    found = [f"{' '.join(key)} is on one side alone" for key in sorted(left.keys() ^ right.keys())]
    for key in sorted(left.keys() & right.keys()):
        pairs = _walk("", left[key], right[key])
        found += [f"{' '.join(key)}: {path}: {one!r} and {other!r}" for path, one, other in pairs]
    return found


def _by_name(objects):
    # A release does not make its namespace.
    return {
        (thing["kind"], thing["metadata"]["name"]): _plain(thing) for thing in objects if thing["kind"] != "Namespace"
    }


def _plain(value):
    """Without what the chart adds, and with lists of named things in one order."""
    if isinstance(value, dict):
        plain = {key: _plain(inner) for key, inner in value.items() if key not in ADDED}
        if not plain.get("annotations", True):
            del plain["annotations"]
        return plain
    if isinstance(value, list) and all(isinstance(item, dict) and "name" in item for item in value):
        return [_plain(item) for item in sorted(value, key=lambda item: item["name"])]
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _walk(path, one, other):
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from _walk(f"{path}.{key}", one.get(key), other.get(key))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other)):
            yield from _walk(f"{path}[{index}]", *pair)
    elif one != other:
        yield path, one, other
