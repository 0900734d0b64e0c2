"""What a set of objects must hold, whichever way it was rendered."""

from kustomize import containers

# 5 s of accepting, 25 s for calls in flight.
DRAIN_SECONDS = 30
POD_SECURITY = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
KINDS = {
    "ConfigMap",
    "Deployment",
    "HorizontalPodAutoscaler",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "Service",
    "ServiceAccount",
}


def faults(objects):
    """What is missing or wrong, a sentence each."""
    kinds = {thing["kind"] for thing in objects}
    found = [f"there is no {kind}" for kind in sorted(KINDS - kinds)]
    found += [f"{thing['metadata']['name']}: a Secret has no place here" for thing in _of(objects, "Secret")]
    for deployment in _of(objects, "Deployment"):
        found += _pod_faults(deployment["spec"]["template"]["spec"])
        found += _selector_faults(deployment, objects)
    for container in containers(objects):
        found += _security_faults(container["name"], container.get("securityContext", {}), CONTAINER_SECURITY)
        missing = {"requests", "limits"} - container["resources"].keys()
        found += [f"{container['name']}: no {what}" for what in sorted(missing)]
    if not any(service["spec"].get("clusterIP") == "None" for service in _of(objects, "Service")):
        found.append("no Service is headless")
    return found


def _of(objects, kind):
    return [thing for thing in objects if thing["kind"] == kind]


def _pod_faults(pod):
    found = _security_faults("pod", pod.get("securityContext", {}), POD_SECURITY)
    if pod["terminationGracePeriodSeconds"] <= DRAIN_SECONDS:
        found.append("the pod is killed before it has drained")
    if [container["args"] for container in pod["initContainers"]] != [["migrate"]]:
        found.append("the pod does not migrate first")
    places = {spread["topologyKey"] for spread in pod["topologySpreadConstraints"]}
    if places != {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}:
        found.append("the pods are not spread over zones and nodes")
    (container,) = pod["containers"]
    if container["livenessProbe"].get("httpGet") != {"path": "/livez", "port": "operations"}:
        found.append("liveness must ask /livez at the operations port, which never asks the database")
    # The kubelet's gRPC probe speaks no TLS.
    is_tls = any(volume["name"] == "tls" for volume in pod["volumes"])
    by_http = {"path": "/readyz", "port": "operations"}
    readiness = container["readinessProbe"]
    if (readiness.get("grpc"), readiness.get("httpGet")) != ((None, by_http) if is_tls else ({"port": 50051}, None)):
        found.append("readiness must ask the health service, and with TLS /readyz")
    return found


def _security_faults(name, context, wanted):
    return [f"{name}: {key} must be {value}" for key, value in wanted.items() if context.get(key) != value]


def _selector_faults(deployment, objects):
    """Everything that chooses pods must choose these."""
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    chosen = [(thing, thing["spec"]["selector"]) for thing in _of(objects, "Service")]
    chosen += [(thing, thing["spec"]["selector"]["matchLabels"]) for thing in _of(objects, "PodDisruptionBudget")]
    chosen += [(thing, thing["spec"]["podSelector"]["matchLabels"]) for thing in _of(objects, "NetworkPolicy")]
    chosen.append((deployment, deployment["spec"]["selector"]["matchLabels"]))
    found = [
        f"{thing['kind']} {thing['metadata']['name']} chooses other pods"
        for thing, selector in chosen
        if not selector.items() <= labels.items()
    ]
    for autoscaler in _of(objects, "HorizontalPodAutoscaler"):
        if autoscaler["spec"]["scaleTargetRef"]["name"] != deployment["metadata"]["name"]:
            found.append("the autoscaler scales something else")
    for monitor in _of(objects, "ServiceMonitor"):
        selector = monitor["spec"]["selector"]["matchLabels"]
        services = [(service["metadata"]["labels"], service["spec"]) for service in _of(objects, "Service")]
        scraped = [spec for labels, spec in services if selector.items() <= labels.items()]
        if [spec.get("clusterIP") for spec in scraped] != ["None"]:
            found.append("the ServiceMonitor must choose the headless Service alone")
    return found
