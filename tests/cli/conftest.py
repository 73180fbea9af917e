"""How tests call commands."""

from dataclasses import dataclass

import pytest

from mixer_py.cli.main import main

POLICY = """
package envoy.authz
import rego.v1
default allow := {"allowed": false, "http_status": 401, "body": "who are you\\u001b[31m", "reasons": ["no token"],
                  "headers": {"x-why": "token"}}
allow := {"allowed": true, "headers": {"x-user": "eve"}, "request_headers_to_remove": ["authorization"]} if {
    input.attributes.request.http.headers.authorization == "Bearer eve"
}
"""


@dataclass(frozen=True, slots=True)
class Result:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture
def mixer(capsys, tmp_path, monkeypatch):
    """Runs a command in this process, in a folder of its own and without our variables."""
    monkeypatch.chdir(tmp_path)
    for name in ("XDG_RUNTIME_DIR", "MIXER_CONFIG"):
        monkeypatch.delenv(name, raising=False)

    def run(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def configuration(tmp_path):
    """A configuration file whose policy lets only eve pass."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "authz.rego").write_text(POLICY)
    path = tmp_path / "mixer.yaml"
    path.write_text("policy: {bundles: [policies]}\n")
    return path
