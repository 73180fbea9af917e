"""What a process loads before it works: memory and start time that everybody pays."""

from __future__ import annotations

import subprocess
import sys

import pytest


def loaded(module: str) -> set[str]:
    """Top-level packages that importing a module brings, in a process of its own."""
    program = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )


@pytest.mark.parametrize("module", ["mixer_py.runtime.worker", "mixer_py.runtime.store"])
def test_processes_that_handle_rows_do_without_pandas(module: str) -> None:
    assert "pyarrow" in loaded(module)
    assert "pandas" not in loaded(module)


def test_settings_of_tables_are_read_without_arrow() -> None:
    program = (
        "import sys; from mixer_py.config.configuration import Configuration;"
        "settings = {'clickhouse': {'url': 'chdb:///nowhere'}, 'retention': {'requests': '30d', 'rollups': '400d'}};"
        "telemetry = Configuration.model_validate({'telemetry': settings}).telemetry;"
        "print(dict(telemetry.layout.retention), 'pyarrow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "{'requests': 2592000, 'rollups': 34560000} False\n"


def test_the_supervisor_loads_nothing_that_decides_or_handles_rows() -> None:
    assert loaded("mixer_py.runtime.supervisor") & {"regorus", "pyarrow", "numpy", "envoy", "grpc", "ptars"} == set()


PROCESSES = ("worker", "envoy_worker", "store", "supervisor", "shadow")


@pytest.mark.parametrize("process", PROCESSES)
def test_no_process_loads_what_only_commands_tokens_and_certificates_need(process: str) -> None:
    assert loaded(f"mixer_py.runtime.{process}") & {"rich", "pygments", "cryptography"} == set()


TOKEN = 'allow if io.jwt.verify_hs256(input.attributes.request.http.headers.token, "secret")'
CERTIFICATE = "allow if count(crypto.x509.parse_certificates(input.attributes.source.certificate)) > 0"


@pytest.mark.parametrize(
    ("rule", "loads"), [('allow if input.parsed_path[0] == "open"', False), (TOKEN, True), (CERTIFICATE, True)]
)
def test_what_verifies_is_loaded_with_a_policy_that_calls_it_and_before_its_first_call(rule, loads):
    program = (
        "import sys\n"
        "from mixer_py.policy.bundles.bundle import Bundle, Module\n"
        "from mixer_py.policy.engines.interpreter import Interpreter\n"
        f"module = Module('p.rego', {f'package envoy.authz{chr(10)}import rego.v1{chr(10)}{rule}{chr(10)}'!r})\n"
        "Interpreter(Bundle((module,), {}, (), ''), ['envoy/authz/allow'], print)\n"
        "print('cryptography' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == f"{loads}\n"
