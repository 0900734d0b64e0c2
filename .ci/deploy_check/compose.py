"""What can be said of compose.yaml without Docker."""

from kustomize import documents


def faults():
    """What is wrong with it, a sentence each."""
    (compose,) = documents("deploy/compose.yaml")
    services = compose["services"]
    found = []
    for name, service in services.items():
        unknown = set(service.get("depends_on", {})) - services.keys()
        found += [f"compose: {name} waits for {other}, which is not there" for other in sorted(unknown)]
        public = [port for port in service.get("ports", []) if not port.startswith("127.0.0.1:")]
        found += [f"compose: {name} opens {port} to the network" for port in public]
    if services["migrate"]["command"] != ["migrate"]:
        found.append("compose: nothing migrates")
    migrated = services["user-service"]["depends_on"]["migrate"]["condition"]
    if migrated != "service_completed_successfully":
        found.append("compose: the service does not wait for the migration")
    return found
