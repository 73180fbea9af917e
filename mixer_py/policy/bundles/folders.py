"""Read bundles that are folders or single files on this machine.

In a folder, names that start with a dot are skipped (which also skips the `..data` link of a mounted ConfigMap, whose
files are linked beside it), a file that is reached twice is read once, and `*_test.rego` files are left out: they are
what `mixer test` runs. Every .json, .yaml and .yml file is a data document, rooted by its folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from mixer_py.errors import Fault, PolicyLoadError
from mixer_py.policy.bundles import manifests, signatures
from mixer_py.policy.bundles.collecting import Collector
from mixer_py.policy.bundles.documents import read_document
from mixer_py.policy.bundles.signatures import Key

_DATA_SUFFIXES = frozenset({".json", ".yaml", ".yml"})
_TEST = "_test.rego"


class FolderReader:
    """Reads folders and files into a collector."""

    def __init__(self, collector: Collector, keys: Mapping[str, Key], rego_version: int) -> None:
        self._collector = collector
        self._rego_version = rego_version
        self._keys = keys
        self._seen: set[Path] = set()

    def read_file(self, path: Path) -> None:
        """Read a bundle that is one file."""
        if path.suffix != ".rego" and path.suffix not in _DATA_SUFFIXES:
            way_out = "name a folder, a .rego, .json or .yaml file, or a bundle archive (.tar.gz)"
            self._fault("is neither a folder nor a file that holds policies or data", path, way_out)
        elif self._keys:
            way_out = "sign the folder that holds it, or a bundle archive"
            self._fault("is not signed, and policy.bundle_keys asks for signatures", path, way_out)
        else:
            self._read(path, ())

    def read_folder(self, folder: Path) -> None:
        """Read a bundle that is a folder."""
        verified = self._verified(folder) if self._keys else None
        found = 0
        for path in _walk(folder):
            if not path.name.endswith(_TEST) and (path.suffix == ".rego" or path.suffix in _DATA_SUFFIXES):
                found += 1
                relative = path.relative_to(folder)
                content = None if verified is None else verified.get(relative.as_posix())
                if verified is None or content is not None:  # else it came after the verification
                    self._read(path, relative.parent.parts, content)
        if not found:
            self._fault("the folder holds no .rego, .json or .yaml file", folder)

    def _verified(self, folder: Path) -> dict[str, bytes]:
        """Every file by its path in the folder, as it was signed.

        Raises:
            PolicyLoadError: a file cannot be read, or the signature does not hold.
        """
        named = folder / signatures.FILE
        if not named.is_file():
            way_out = f"put its {signatures.FILE} there, as `opa sign -b` writes it"
            raise PolicyLoadError([Fault("the bundle is not signed", str(folder), way_out=way_out)])
        manifest = folder / manifests.FILE
        try:
            files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in _walk(folder)}
            if manifest.is_file():
                files[manifests.FILE] = manifest.read_bytes()
            return signatures.verify(files, named.read_bytes(), self._keys, str(folder.absolute()))
        except OSError as error:
            raise PolicyLoadError([Fault(f"cannot be read: {error}", str(folder))]) from None

    def _fault(self, message: str, path: Path, way_out: str = "") -> None:
        self._collector.faults.append(Fault(message, str(path), way_out=way_out))

    def _read(self, path: Path, root: tuple[str, ...], content: bytes | None = None) -> None:
        """Read one file, or take its content as it was signed."""
        try:
            str(path).encode()
            resolved = path.resolve(strict=True)
            if resolved in self._seen:
                return
            content = path.read_bytes() if content is None else content
        except OSError as error:
            self._fault(f"cannot be read: {error}", path)
            return
        except UnicodeEncodeError:
            self._collector.faults.append(Fault("its name is no UTF-8 text", ascii(str(path))))
            return
        self._seen.add(resolved)
        if path.suffix == ".rego":
            self._collector.add_module(str(resolved), str(path), content, self._rego_version)
            return
        try:
            value, text = read_document(content, str(path), is_json=path.suffix == ".json")
        except PolicyLoadError as error:
            self._collector.faults.extend(error.faults)
            return
        if isinstance(value, dict):
            self._collector.add_document(value, text, root, str(path))
        else:
            self._fault("a data document must be an object", path)


def _walk(folder: Path) -> Iterator[Path]:
    """Files of a bundle folder in order; hidden names are left out, linked folders are entered."""
    pending, entered = [folder], {folder.resolve()}
    while pending:
        current = pending.pop()
        for path in sorted(current.iterdir()):
            if path.name.startswith("."):
                continue
            if path.is_dir():
                resolved = path.resolve()
                if resolved not in entered:
                    entered.add(resolved)
                    pending.append(path)
            elif path.is_file():
                yield path
