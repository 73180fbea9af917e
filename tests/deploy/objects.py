"""Kubernetes objects held against the schemas of API servers; what a schema does not know is a fault.

Kubernetes' own kinds come from its OpenAPI document, the others from their custom resource definitions. What those say
in CEL (`x-kubernetes-validations`) is not asked.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import jsonschema
import yaml

from tests.parts.go_modules import module_folder

Document = dict[str, Any]

_DEFINITIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "istio.io/api": ("kubernetes/customresourcedefinitions.gen.yaml",),
    "github.com/prometheus-operator/prometheus-operator": (
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
    ),
    "github.com/envoyproxy/gateway": (
        "charts/gateway-helm/charts/crds/crds/gatewayapi-crds.yaml",
        "charts/gateway-helm/charts/crds/crds/generated/*.yaml",
    ),
}


def documents(text: str) -> list[Document]:
    """The objects of a YAML stream."""
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def faults(document: Mapping[str, Any]) -> list[str]:
    """What its schema says against an object, with the place of each."""
    kind = (document["apiVersion"], document["kind"])
    schema = _native().get(kind) or _custom().get(kind)
    if schema is None:
        return [f"{kind} is no kind that Kubernetes, Istio, Envoy Gateway or the Prometheus operator has"]
    validator = jsonschema.Draft202012Validator(schema)
    return [f"{document['kind']} {fault.json_path}: {fault.message[:300]}" for fault in validator.iter_errors(document)]


@functools.cache
def _native() -> dict[tuple[str, str], Document]:
    text = (module_folder("k8s.io/kubernetes") / "api/openapi-spec/swagger.json").read_text(encoding="utf-8")
    definitions: Document = json.loads(text)["definitions"]
    closed = {name: _closed(definition) for name, definition in definitions.items()}
    return {
        (f"{kind['group']}/{kind['version']}".lstrip("/"), kind["kind"]): {
            "$ref": f"#/definitions/{name}",
            "definitions": closed,
        }
        for name, definition in definitions.items()
        for kind in definition.get("x-kubernetes-group-version-kind", ())
    }


@functools.cache
def _custom() -> dict[tuple[str, str], Document]:
    found = {}
    for definition in _resource_definitions():
        specification = definition["spec"]
        for version in specification["versions"]:
            schema = version.get("schema", {}).get("openAPIV3Schema")
            if version["served"] and schema is not None:
                name = (f"{specification['group']}/{version['name']}", specification["names"]["kind"])
                found[name] = _closed(schema) | {"required": ["apiVersion", "kind", "metadata"]}
                found[name]["properties"] |= {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "metadata": {"type": "object", "required": ["name"]},
                }
    return found


def _resource_definitions() -> Iterator[Document]:
    for module, patterns in _DEFINITIONS.items():
        folder = module_folder(module)
        paths: list[Path] = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
        assert paths, f"{module} has none of {patterns}"
        for path in paths:
            for document in documents(path.read_text(encoding="utf-8")):
                if document["kind"] == "CustomResourceDefinition":
                    yield document


def _closed(schema: Mapping[str, Any]) -> Document:
    """A structural schema as plain JSON schema in which no property may stand that it does not name."""
    result = {key: value for key, value in schema.items() if key not in ("default", "description", "format")}
    if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
        result["type"] = ["integer", "string"]
    if schema.get("nullable") and "type" in result:
        result["type"] = [result["type"], "null"]
    if "properties" in schema:
        result["properties"] = {name: _closed(value) for name, value in schema["properties"].items()}
        if "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            result["additionalProperties"] = False
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), Mapping):
            result[key] = _closed(schema[key])
    return result
