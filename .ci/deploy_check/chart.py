"""The chart, by the Helm engine."""

import helm_python
import yaml

from kustomize import documents

CHART = "deploy/helm/user-service"
NAMESPACE = "user-service"


def faults(values):
    """What Helm's own lint finds, warnings too."""
    report = helm_python.lint(CHART, values, strict=True, namespace=NAMESPACE)
    found = [message["error"] for message in report["messages"] if message["severity"] > 1]
    return [f"chart: {error}" for error in found + report["errors"]]


def render(values, name="user-service"):
    """The objects of a release."""
    with helm_python.Chart.load(CHART) as chart:
        files = chart.render(values, name=name, namespace=NAMESPACE)
    rendered = [text for file, text in files.items() if file.endswith(".yaml")]
    return [thing for text in rendered for thing in yaml.safe_load_all(text) if thing]


def app_version():
    """The version of the service that the chart runs."""
    with helm_python.Chart.load(CHART) as chart:
        return chart.metadata["appVersion"]


def refuses(values):
    """Whether the chart's schema turns these values away."""
    try:
        with helm_python.Chart.load(CHART) as chart:
            chart.validate_schema(values)
    except helm_python.HelmValuesError:
        return True
    return False


def example_values():
    """The values that mean the same as the example overlay."""
    (values,) = documents("deploy/helm/example-values.yaml")
    return values
