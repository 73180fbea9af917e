"""Read all bundles that a configuration names, verify them, and merge them into one. Neither compiles nor fetches."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mixer_py.errors import Fault, PolicyLoadError
from mixer_py.policy.bundles.archives import SUFFIXES, Archive, collect, overlapping, read_archive
from mixer_py.policy.bundles.bundle import Bundle, Module
from mixer_py.policy.bundles.collecting import Collector
from mixer_py.policy.bundles.documents import read_document
from mixer_py.policy.bundles.folders import FolderReader
from mixer_py.policy.bundles.settings import BundleKeySettings, BundleLimits, DataSettings, is_url
from mixer_py.policy.bundles.signatures import Key
from mixer_py.policy.bundles.sources import (
    Source,
    bundle_source,
    copies_folder,
    data_source,
    kept_copies,
    sources_of,
)
from mixer_py.policy.settings import REGO_VERSIONS, PolicySettings

__all__ = ["Bundle", "Module", "Terms", "read_bundles", "read_policy", "terms_of"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What bundles have to meet, and what was fetched.

    Attributes:
        keys: with any, every bundle has to be signed.
        limits: on archives.
        fetched: files of what was fetched, by the keys of their sources.
        data: documents that are fetched, by their place in `data`.
        rego_version: of modules whose bundle does not say it.
    """

    keys: Mapping[str, Key] = field(default_factory=dict)
    limits: BundleLimits = field(default_factory=BundleLimits)
    fetched: Mapping[str, Path] = field(default_factory=dict)
    data: Mapping[str, DataSettings] = field(default_factory=dict)
    rego_version: int = 1


def terms_of(settings: PolicySettings, fetched: Mapping[str, Path] | None = None) -> Terms:
    """The terms that settings give.

    Args:
        settings: of the policy.
        fetched: files of what was fetched; None for the copies that a mixer with these settings has kept.

    Raises:
        PolicyLoadError: a key cannot be read.
    """
    if fetched is None:
        folder = copies_folder(settings.fetch.folder, os.environ)
        fetched = kept_copies(sources_of(settings.bundles, settings.data), folder)
    keys, version = _keys(settings.bundle_keys), REGO_VERSIONS[settings.rego_version]
    return Terms(keys, settings.bundle_limits, fetched, settings.data, version)


def read_policy(settings: PolicySettings, fetched: Mapping[str, Path] | None = None) -> Bundle:
    """Read everything that settings name: `policy.bundles`, `policy.data` and `policy.proto_descriptor`.

    Raises:
        PolicyLoadError: with every fault found.
    """
    bundle = read_bundles(settings.bundles, terms_of(settings, fetched))
    file = settings.proto_descriptor
    if file is None:
        return bundle
    try:
        return replace(bundle, proto_descriptor=Path(file).read_bytes())
    except OSError as error:
        fault = Fault(f"cannot be read: {error.strerror}", file, field="policy.proto_descriptor")
        raise PolicyLoadError([fault]) from None


def read_bundles(bundles: Sequence[str], terms: Terms | None = None) -> Bundle:
    """Read all bundles and merge them.

    Args:
        bundles: folders, files, archives, and URLs whose content was fetched before.
        terms: what they have to meet.

    Raises:
        PolicyLoadError: with every fault found: missing or unreadable files, signatures that do not hold, folders
            without policies, documents that are no objects or contradict one another.
    """
    terms = terms or Terms()
    collector = Collector()
    folders = FolderReader(collector, terms.keys, terms.rego_version)
    archives: list[Archive] = []
    for bundle in dict.fromkeys(bundles):
        try:
            archives += _read(bundle, terms, collector, folders)
        except PolicyLoadError as error:
            collector.faults.extend(error.faults)
    collector.faults.extend(overlapping(archives))
    for order, archive in enumerate(archives):
        collect(archive, order, collector, terms.rego_version)
    for name, settings in terms.data.items():
        _read_data(name, data_source(name, settings), terms, collector)
    if collector.faults:
        raise PolicyLoadError(collector.faults)
    return collector.bundle()


def _read(bundle: str, terms: Terms, collector: Collector, folders: FolderReader) -> list[Archive]:
    """Read one bundle; an archive is returned, because archives are compared before they are used."""
    if is_url(bundle):
        source = bundle_source(bundle)
        file = terms.fetched.get(source.key)
        if file is None:
            collector.missing.append(source.name)
            return []
        return [read_archive(file, source.name, terms.limits, terms.keys)]
    path = Path(bundle)
    if path.is_dir():
        folders.read_folder(path)
    elif not path.is_file():
        raise PolicyLoadError(
            [Fault("does not exist", str(path), way_out="name a folder or file under policy.bundles")]
        )
    elif bundle.endswith(SUFFIXES):
        return [read_archive(path, str(path), terms.limits, terms.keys)]
    else:
        folders.read_file(path)
    return []


def _read_data(name: str, source: Source, terms: Terms, collector: Collector) -> None:
    """Read one document of `policy.data`."""
    file = terms.fetched.get(source.key)
    if file is None:
        collector.missing.append(source.name)
        return
    try:
        value, text = read_document(file.read_bytes(), source.name, is_json=True)
    except OSError as error:
        collector.faults.append(Fault(f"cannot be read: {error}", source.name))
    except PolicyLoadError as error:
        collector.faults.extend(error.faults)
    else:
        collector.add_document(value, text, tuple(name.replace("/", ".").split(".")), source.name)


def _keys(settings: Mapping[str, BundleKeySettings]) -> dict[str, Key]:
    keys, faults = {}, []
    for name, key in settings.items():
        try:
            keys[name] = Key(key.algorithm, key.key.reveal(), key.scope)
        except (OSError, UnicodeDecodeError) as error:
            faults.append(
                Fault(f"cannot be read: {error}", str(key.key.file or ""), field=f"policy.bundle_keys.{name}")
            )
    if faults:
        raise PolicyLoadError(faults)
    return keys
