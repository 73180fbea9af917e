"""Find every fault in configuration, policies and rate limits, each with its file and line. Exit 1 when there is one.

Warnings are things that work and are seldom meant; they do not change the exit code.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from mixer_py.cli.options import add_configuration, add_format
from mixer_py.cli.output import print_json, print_line, printable, shorten_paths
from mixer_py.config import Configuration, find_file, load, secret_faults
from mixer_py.config.exposure import exposures
from mixer_py.errors import ConfigurationError, Fault
from mixer_py.instruments import SystemClock
from mixer_py.policy.bundles.advice import advice
from mixer_py.policy.bundles.reading import read_policy
from mixer_py.policy.candidate import candidate_settings
from mixer_py.policy.explaining.interpreter import parse
from mixer_py.policy.policy import Policy
from mixer_py.policy.rego.attributes import check_attributes
from mixer_py.policy.rego.attributes_data import check_decision, check_documents
from mixer_py.policy.rego.pattern_faults import check_patterns
from mixer_py.policy.settings import PolicySettings
from mixer_py.ratelimit.rules import Rules
from mixer_py.ratelimit.stores.opening import check_store
from mixer_py.runtime.certificate_files import read_all
from mixer_py.runtime.counters import require_valkey
from mixer_py.runtime.data_plane import read_data_plane

EXAMPLES = ("mixer validate -c mixer.yaml", "mixer validate --format json")


@dataclass(frozen=True, slots=True)
class Report:
    """What was found: faults, and what works but is seldom meant."""

    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...]


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_configuration(parser)
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Validates, and prints what it found."""
    report = validate(arguments)
    file = find_file(arguments.config)
    checked = str(file) if file is not None else "the defaults (no configuration file)"
    if arguments.format == "json":
        faults, warnings = ([_plain(fault) for fault in found] for found in (report.faults, report.warnings))
        print_json({"checked": checked, "good": not report.faults, "faults": faults, "warnings": warnings})
    else:
        for kind, found in (("error", report.faults), ("warning", report.warnings)):
            for fault in found:
                print_line(printable(shorten_paths(f"{kind}: {fault}")))
        count = len(report.faults)
        print_line(
            printable(shorten_paths(f"{checked}: {'good' if not count else f'{count} fault' + 's' * (count > 1)}"))
        )
    return 1 if report.faults else 0


def validate(arguments: argparse.Namespace) -> Report:
    """Every fault and every warning about what the options name."""
    try:
        configuration = load(arguments.config, os.environ, arguments.overrides)
    except ConfigurationError as error:
        return Report(error.faults, ())
    faults: list[Fault] = []
    warnings = list(_warnings(configuration))
    candidate = candidate_settings(configuration.policy)
    policies = [configuration.policy] if candidate is None else [configuration.policy, candidate]
    loads: list[Callable[[], object]] = [partial(Policy.load, settings) for settings in policies]
    loads.append(partial(Rules.load, configuration.rate_limit))
    loads.append(partial(check_store, configuration.rate_limit))
    loads.append(partial(require_valkey, configuration))
    loads.append(partial(read_data_plane, configuration.server))
    for load_one in loads:
        try:
            load_one()
        except ConfigurationError as error:
            faults.extend(error.faults)
    faults.extend(secret_faults(configuration))
    faults.extend(read_all(configuration.server, SystemClock().wall())[1])
    for settings in policies:
        with suppress(ConfigurationError):  # told already
            warnings.extend(advice(settings))
    for settings in policies:
        references = _check_references(settings, "" if settings is configuration.policy else "of the candidate ")
        faults.extend(references.faults)
        warnings.extend(references.warnings)
    return Report(tuple(dict.fromkeys(faults)), tuple(dict.fromkeys(warnings)))


def _check_references(policy: PolicySettings, whose: str) -> Report:
    """What the policies refer to and nothing can define: attributes are faults, documents may come later."""
    if policy.engine != "embedded":  # what another engine loads, it judges
        return Report((), ())
    try:
        bundle = read_policy(policy)
        trees = parse(bundle.modules)
    except ConfigurationError:  # told already
        return Report((), ())
    decisions = [*(one.path for one in policy.decisions), policy.decision]
    attributes, patterns = check_attributes(trees, decisions), check_patterns(trees)
    if bundle.missing or not policy.bundles:
        return Report(tuple(attributes), tuple(patterns))
    data, fetched = bundle.data_at([()]), list(policy.data)
    fields = {f"policy.decisions.{index}.path": one.path for index, one in enumerate(policy.decisions)}
    undefined = []
    for field, path in {**fields, "policy.decision": policy.decision}.items():
        way_out = check_decision(trees, data, fetched, path)
        if way_out is not None:
            undefined.append(Fault(f"no policy {whose}defines {path}", field=field, way_out=way_out))
    return Report((*attributes, *undefined), (*patterns, *check_documents(trees, data, fetched)))


def _warnings(configuration: Configuration) -> Iterator[Fault]:
    server = configuration.server
    answered = {service for listener in server.listeners for service in listener.service_names}
    if "ext_authz" in answered and configuration.policy.engine == "embedded" and not configuration.policy.bundles:
        yield Fault("no policy is loaded, so every check is denied", field="policy.bundles", way_out="name a folder")
    yield from exposures(server)
    if not server.admin.is_loopback and server.admin_token is None:
        message = f"on {server.admin} only /metrics and /healthz answer other machines"
        yield Fault(message, field="server.admin", way_out="set server.admin_token for the other pages")
    if configuration.policy.dry_run:
        yield Fault("denials are not enforced", field="policy.dry_run")
    if configuration.telemetry.clickhouse is None and not answered.isdisjoint(("ext_authz", "access_log")):
        message = "no rows are written, and `mixer query` has nothing to read"
        yield Fault(
            message, field="telemetry.clickhouse", way_out="name a folder, as {url: chdb:///var/lib/mixer/chdb}"
        )


def _plain(fault: Fault) -> dict[str, object]:
    names = ("file", "line", "field", "message", "way_out")
    return {name: getattr(fault, name) for name in names}
