"""The lines of deploy/envoy/envoy.yaml that let Envoy speak TLS to mixer: there they are a comment."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import yaml

from tests.parts.envoy_proxy import SHIPPED, Bootstrap

_COMMENTED: Final = re.compile(r"^      #(?=transport_socket|  )", re.MULTILINE)
_FOLDER: Final = "/etc/envoy/tls"


def with_tls(folder: Path) -> str:
    """The shipped configuration with those lines, and Envoy's certificates in a folder."""
    text, lines = _COMMENTED.subn("      ", SHIPPED.read_text(encoding="utf-8"))
    assert lines > 10, "the lines are not where this test looks for them"
    return text.replace(_FOLDER, str(folder))


def speak_tls(bootstrap: Bootstrap, folder: Path) -> None:
    """Puts those lines into another configuration."""

    def mixers(whole: Bootstrap) -> dict[str, Any]:
        (found,) = [one for one in whole["static_resources"]["clusters"] if one["name"] == "mixer"]
        return dict(found)

    socket = mixers(yaml.safe_load(with_tls(folder)))["transport_socket"]
    for cluster in bootstrap["static_resources"]["clusters"]:
        if cluster["name"] == "mixer":
            cluster["transport_socket"] = socket
