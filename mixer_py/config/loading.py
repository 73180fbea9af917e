"""From file, environment and command line to one immutable `Configuration`, or to all faults at once.

Not for: reading what the configuration names (policies, rules), which is their rooms' work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from pydantic import ValidationError

from mixer_py.config.configuration import Configuration
from mixer_py.config.definition import Shape, shape_of_settings, suggest
from mixer_py.config.environment import Override, from_command_line, from_environment, lay_over
from mixer_py.config.faults import faults_of, node_at
from mixer_py.config.file import read_file
from mixer_py.config.tree import Node, Place
from mixer_py.errors import ConfigurationError, Fault

DEFAULT_FILES = (Path("mixer.yaml"), Path("/etc/mixer/mixer.yaml"))
"""Where a configuration is looked for when none is named."""


def find_file(path: Path | None) -> Path | None:
    """The configuration file that `load` reads: the one named, else the first default that exists, else none."""
    if path is not None:
        return path
    return next((candidate for candidate in DEFAULT_FILES if candidate.exists()), None)


def load(
    path: Path | None,
    environment: Mapping[str, str],
    overrides: Mapping[str, str] | Sequence[str] = (),
) -> Configuration:
    """The configuration: command line over environment over file over defaults.

    Args:
        path: the file; None for `./mixer.yaml`, else `/etc/mixer/mixer.yaml`, else no file at all.
        environment: its `MIXER_…` variables are read; their relative paths are relative to the working folder.
        overrides: `{"server.admin": "127.0.0.1:15014"}` or `["server.admin=127.0.0.1:15014"]`.

    Raises:
        ConfigurationError: with every fault, each with its place.
    """
    working_folder = Path.cwd()
    root, faults = _read(path, working_folder)
    shape = shape_of_settings(Configuration)
    lay_over(root, shape, from_environment(environment, working_folder), _defaults(), faults)
    written = from_command_line(overrides, working_folder, faults)
    lay_over(root, shape, [one for one in written if not _shows_secret(one, shape, faults)], _defaults(), faults)
    root = _checked(root, shape, shape, (), faults) or Node({}, root.place)
    configuration = _validate(root, shape, faults)
    if faults or configuration is None:
        raise ConfigurationError(sorted(dict.fromkeys(faults), key=_order))
    return configuration


def _read(path: Path | None, working_folder: Path) -> tuple[Node, list[Fault]]:
    found = find_file(path)
    if found is None:
        return Node({}, Place("default", 0, working_folder)), []
    try:
        return read_file(found)
    except ConfigurationError as error:
        return Node({}, Place(str(found), 0, found.absolute().parent)), list(error.faults)


@cache
def _defaults() -> dict[str, object]:
    return Configuration().model_dump(mode="json")


def _order(fault: Fault) -> tuple[int, int, str]:
    """Faults of the file by line, then those of the environment, then those of the command line."""
    source = {"environment": 1, "command line": 2}.get(fault.file, 0)
    return source, fault.line, fault.field


def _shows_secret(override: Override, root: Shape, faults: list[Fault]) -> bool:
    """Whether this would put a secret on the command line, where every user of the machine can read it."""
    shape: Shape | None = root
    inside = False
    for step in override.path:
        if shape is None:
            return False
        inside = inside or shape.secret
        shape = shape.child(step)
    names_file = (inside and override.path[-1] == "file") or override.text.lstrip().startswith("{")
    if shape is None or not (inside or shape.secret) or names_file or override.text in {"null", "~", ""}:
        return False
    way_out = "give its file, as {file: path}, or set it in the environment"
    faults.append(Fault("a secret is never on a command line", "command line", 0, override.shown, way_out))
    return True


def _checked(node: Node, shape: Shape, root: Shape, path: tuple[str, ...], faults: list[Fault]) -> Node | None:
    """The tree without what pydantic must not see: unknown keys, empty sections; its paths absolute.

    None when nothing is left, so that the default holds.
    """
    place = node.place
    if isinstance(node.value, dict) and shape.kind in {"section", "map"}:
        members = {}
        for name, member in node.value.items():
            inner = shape.child(name)
            if inner is None:
                way_out = suggest((*path, name), root)
                where, dotted = member.place, ".".join((*path, name))
                faults.append(Fault("there is no such key", where.file, where.line, where.name or dotted, way_out))
            elif (checked := _checked(member, inner, root, (*path, name), faults)) is not None:
                members[name] = checked
        return Node(members, place, node.text)
    if isinstance(node.value, list) and shape.item is not None:
        item = shape.item
        items = (_checked(one, item, root, (*path, str(at)), faults) for at, one in enumerate(node.value))
        return Node([one or Node({}, place) for one in items], place, node.text)
    if node.value is None and shape.kind == "section" and not shape.optional:
        return None
    if shape.duration and isinstance(node.value, float):  # parse_duration takes a float for validated seconds
        return Node(node.text, place, node.text)
    if shape.path and isinstance(node.value, str) and "://" not in node.value:
        return Node(str(Path(place.base, node.value)), place, node.text)
    return node


def _plain(node: Node) -> object:
    if isinstance(node.value, dict):
        return {name: _plain(member) for name, member in node.value.items()}
    if isinstance(node.value, list):
        return [_plain(item) for item in node.value]
    return node.value


def _validate(root: Node, shape: Shape, faults: list[Fault]) -> Configuration | None:
    for attempt in range(2):
        try:
            return Configuration.model_validate(_plain(root), context={"base": root.place.base})
        except ValidationError as error:
            details = error.errors(include_url=False)
            if attempt == 0 and _take_as_text(root, shape, [detail["loc"] for detail in details]):
                continue
            faults.extend(faults_of(details, root, shape))
            return None
    return None


def _take_as_text(root: Node, shape: Shape, places: Sequence[tuple[int | str, ...]]) -> bool:
    """Where YAML made a number of what an environment variable holds and it does not fit, takes it as text."""
    changed = False
    for location in places:
        node, _, _ = node_at(root, shape, location)
        if node.place.line == 0 and node.text and not isinstance(node.value, (str, dict, list)):
            node.value = node.text
            changed = True
    return changed
