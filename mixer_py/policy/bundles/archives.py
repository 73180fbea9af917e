"""Read OPA's bundle archives (.tar.gz), in memory and within limits: nothing is unpacked to disk, no link is followed.

As in OPA only `.rego` files, `data.json`, `data.yaml` and `data.yml` count, and `.manifest` says what the bundle owns.
`*_test.rego` files are left out: they are what `mixer test` runs.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

from mixer_py.errors import Fault, PolicyLoadError
from mixer_py.policy.bundles import manifests, signatures
from mixer_py.policy.bundles.collecting import Collector
from mixer_py.policy.bundles.documents import YAML_NAMES, read_document
from mixer_py.policy.bundles.manifests import Manifest, read_manifest
from mixer_py.policy.bundles.packages import package_of
from mixer_py.policy.bundles.settings import BundleLimits
from mixer_py.policy.bundles.signatures import Key
from mixer_py.settings import format_size

SUFFIXES: Final = (".tar.gz", ".tgz")
_CHUNK: Final = 1 << 20
_REFUSED: Final = {
    "patch.json": ("is a delta bundle, which is not built", "serve whole bundles (snapshots)"),
    "policy.wasm": ("holds WebAssembly, which is not evaluated", "build it with `opa build --target rego`"),
    "plan.json": ("holds a plan, which is not evaluated", "build it with `opa build --target rego`"),
    "plan.pb": ("holds a plan, which is not evaluated", "build it with `opa build --target rego`"),
    ".manifest.pb": ("has a manifest in protobuf, which is not read", "build it with a manifest in JSON"),
}
"""Names of files that a bundle may not have: why, and the way out."""


class _RefusedError(Exception):
    """Why an archive is refused."""


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive that was read and found good: its files, and what its manifest says.

    Attributes:
        name: how people know the bundle; two URLs that differ in their query share it.
        files: by their paths from the bundle's root.
    """

    name: str
    files: Mapping[str, bytes]
    manifest: Manifest


def read_archive(path: Path, name: str, limits: BundleLimits, keys: Mapping[str, Key]) -> Archive:
    """Read an archive whole, and verify it.

    Args:
        path: the file.
        name: how people know the bundle: its path, or its URL.
        limits: on its size.
        keys: with any, it has to be signed.

    Raises:
        PolicyLoadError: with every fault found.
    """
    try:
        files = dict(_files(_packed(path, limits), limits))
    except OSError as error:
        raise PolicyLoadError([Fault(f"cannot be read: {error.strerror or error}", name)]) from None
    except _RefusedError as error:
        raise PolicyLoadError([Fault(str(error), name)]) from None
    refused = sorted(file for file in files if file.rpartition("/")[2] in _REFUSED)
    if refused:
        message, way_out = _REFUSED[refused[0].rpartition("/")[2]]
        raise PolicyLoadError([Fault(message, _known(name, refused[0]), way_out=way_out)])
    files = _verified(files, keys, name)
    manifest, faults = _manifest(files, name)
    if not faults:
        faults = [*_outside_of_roots(files, manifest, name), *_wrong_versions(files, manifest, name)]
    if faults:
        raise PolicyLoadError(faults)
    return Archive(name, files, manifest)


def collect(archive: Archive, order: int, collector: Collector, rego_version: int) -> None:
    """Give the modules and documents of an archive, the `order`th one, to a collector.

    Modules are in `rego_version` where its manifest does not say otherwise.
    """
    if archive.manifest.revision:
        collector.revisions[archive.name] = archive.manifest.revision
    for name, content in archive.files.items():
        file = _known(archive.name, name)
        if _is_module(name):
            version = archive.manifest.version_of(name, rego_version)
            collector.add_module(f"{file}\0{order}", file, content, version)
        elif _is_data(name):
            root = tuple(name.split("/")[:-1])
            try:
                value, text = read_document(content, file, is_json=name.endswith(".json"))
            except PolicyLoadError as error:
                collector.faults.extend(error.faults)
                continue
            fault = _data_outside(value, root, archive.manifest, file)
            if fault is None:
                collector.add_document(value, text, root, file)
            else:
                collector.faults.append(fault)


def overlapping(archives: list[Archive]) -> Iterator[Fault]:
    """A fault for each pair of archives that own the same part of `data`."""
    for index, one in enumerate(archives):
        for two in archives[:index]:
            shared = one.manifest.overlaps(two.manifest)
            if shared is not None:
                message = f"owns data{''.join(f'.{part}' for part in shared)}, and so does {two.name}"
                way_out = "give each bundle roots of its own in its .manifest"
                yield Fault(message, one.name, field="roots", way_out=way_out)


def _known(bundle: str, name: str) -> str:
    """How people know a file of a bundle."""
    return f"{bundle}/{name}"


def _is_module(name: str) -> bool:
    return name.endswith(".rego") and not name.endswith("_test.rego")


def _is_data(name: str) -> bool:
    base = name.rpartition("/")[2]
    return base == "data.json" or base in YAML_NAMES


def _packed(path: Path, limits: BundleLimits) -> bytes:
    if path.stat().st_size > limits.archive:
        raise _RefusedError(f"is larger than policy.bundle_limits.archive, {format_size(limits.archive)}")
    return path.read_bytes()


class _Bounded:
    """A stream that ends with a refusal when more comes out of it than the limit allows."""

    def __init__(self, content: bytes, limits: BundleLimits) -> None:
        self._stream = gzip.GzipFile(fileobj=BytesIO(content))
        self._limits = limits
        self._left = limits.unpacked

    def read(self, size: int) -> bytes:
        """At most `size` octets."""
        found = self._stream.read(min(size, self._left + 1))
        self._left -= len(found)
        if self._left < 0:
            most = format_size(self._limits.unpacked)
            raise _RefusedError(f"unpacks to more than policy.bundle_limits.unpacked, {most}")
        return found


def _files(content: bytes, limits: BundleLimits) -> Iterator[tuple[str, bytes]]:
    """The regular files of an archive by their paths from the bundle's root."""
    stream = _Bounded(content, limits)
    seen: set[str] = set()
    try:
        with tarfile.open(fileobj=stream, mode="r|", errorlevel=2) as archive:  # type: ignore[call-overload]
            for count, member in enumerate(archive, 1):
                if count > limits.entries:
                    raise _RefusedError(f"holds more than policy.bundle_limits.entries, {limits.entries}")
                name = _clean(member)
                if member.isdir():
                    continue
                if name in seen:
                    raise _RefusedError(f"holds {name} twice")
                seen.add(name)
                yield name, _content(archive, member)
        while stream.read(_CHUNK):  # to the end, where gzip keeps its checksum
            pass
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, OverflowError) as error:
        raise _RefusedError(f"is no bundle archive, or a damaged one: {error}") from None


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    content = b"" if file is None else file.read()
    if len(content) != member.size:
        raise _RefusedError(f"ends within {member.name}")
    return content


def _clean(member: tarfile.TarInfo) -> str:
    """The path of an entry from the bundle's root, as OPA roots `/data.json` and `./data.json`."""
    plain = member.type in {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE}
    if not plain or member.sparse is not None:  # a sparse file unpacks to more than is read, without a bound
        raise _RefusedError(f"holds {member.name!r}, which is a link, a device or another thing that is no file")
    if not member.name.isascii() and not _is_text(member.name):
        raise _RefusedError(f"holds {member.name!r}, whose name is no UTF-8 text")
    parts = [part for part in member.name.split("/") if part not in {"", "."}]
    if ".." in parts or "\\" in member.name or "\0" in member.name or not (parts or member.isdir()):
        raise _RefusedError(f"holds {member.name!r}, which is no path within the bundle")
    return "/".join(parts)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _verified(files: dict[str, bytes], keys: Mapping[str, Key], name: str) -> dict[str, bytes]:
    """The files as they were signed; without keys, as they are."""
    signed = files.pop(signatures.FILE, None)
    if signed is None and not keys:
        return files
    if signed is None:
        way_out = "build it with `opa build --signing-key`, or take policy.bundle_keys away"
        raise PolicyLoadError([Fault("the bundle is not signed", name, way_out=way_out)])
    if not keys:
        way_out = "put the key's public half under policy.bundle_keys"
        raise PolicyLoadError([Fault("is signed, and there is no key to verify it with", name, way_out=way_out)])
    return signatures.verify(files, signed, keys, name)


def _manifest(files: Mapping[str, bytes], name: str) -> tuple[Manifest, list[Fault]]:
    stray = [file for file in files if file.endswith(manifests.FILE) and file != manifests.FILE]
    if stray:
        way_out = "put one at the root of the bundle"
        return Manifest(), [Fault("a manifest does not stand there", _known(name, file), way_out=way_out)
                            for file in stray]  # fmt: skip
    if manifests.FILE not in files:
        return Manifest(), []
    return read_manifest(files[manifests.FILE], _known(name, manifests.FILE))


def _outside_of_roots(files: Mapping[str, bytes], manifest: Manifest, bundle: str) -> Iterator[Fault]:
    """Faults for modules whose package the bundle does not own."""
    if () in manifest.roots:
        return
    for name in filter(_is_module, files):
        package = package_of(files[name].decode("utf-8", "replace"))
        if package is None:
            message = "its package cannot be told, and the bundle's roots do not cover all"
            yield Fault(message, _known(bundle, name), way_out="begin the file with a plain `package a.b`")
        elif not manifest.owns(package):
            yield _outside("the package", package, manifest, _known(bundle, name))


def _outside(what: str, path: tuple[str, ...], manifest: Manifest, file: str) -> Fault:
    roots = ", ".join(repr("/".join(root)) for root in manifest.roots)
    message = f"{what} data.{'.'.join(path)} lies outside of the bundle's roots {roots}"
    return Fault(message, file, way_out="name it among the roots of .manifest")


def _data_outside(value: object, path: tuple[str, ...], manifest: Manifest, file: str) -> Fault | None:
    """A fault for the first place of a document that the bundle does not own."""
    if manifest.owns(path):
        return None
    if not isinstance(value, dict) or not manifest.leads_to_root(path):
        return _outside("the document", path, manifest, file)
    for key, member in value.items():
        fault = _data_outside(member, (*path, key), manifest, file)
        if fault is not None:
            return fault
    return None


def _wrong_versions(files: Mapping[str, bytes], manifest: Manifest, bundle: str) -> Iterator[Fault]:
    for name in filter(_is_module, files):
        version = manifest.version_of(name, 1)
        if version not in manifests.REGO_VERSIONS:
            yield Fault(f"is written in Rego v{version}, and v0 and v1 are evaluated", _known(bundle, name))
