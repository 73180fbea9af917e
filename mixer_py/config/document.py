"""The reference of the configuration, made from its definition: `python -m mixer_py.config.document > FILE`.

Not for: explaining how things work together, which is written by hand in the other documents.
"""

from __future__ import annotations

import json
import sys

import yaml

from mixer_py.config.configuration import Configuration
from mixer_py.config.definition import Key, keys
from mixer_py.config.loading import DEFAULT_FILES
from mixer_py.settings import format_duration, format_size

_HEAD = """\
# Configuration

<!-- Made from the definition by `python -m mixer_py.config.document`; change the settings classes, not this page. -->

Every key is optional. The file is the one named with `-c`, else the first of {files}
that exists, else none. A value on the command line (`--set server.admin=127.0.0.1:15014`) takes the place of one in
the environment (`MIXER_SERVER__ADMIN=127.0.0.1:15014`), that of one in the file, that of the default. In the
environment two underscores stand for a dot, values are YAML (`MIXER_POLICY__BUNDLES='["policies"]'`), and a number
counts items of a list from 0 (`MIXER_SERVER__LISTENERS__0__ADDRESS`). Variables that Kubernetes makes for a Service
named `mixer` are passed over.

Relative paths are relative to the file that names them; those of the environment and the command line, to the
working folder. A duration is a number with a unit (`150ms`, `1m30s`), a size is bytes or a number with a unit (`4MiB`).
A secret is text or `{{file: path}}`, and is never on a command line. The file is YAML with the types of YAML 1.2.

An unknown key or a wrong value is refused with its file and line: `mixer validate` shows them all.

## All keys at their defaults

```yaml
{defaults}```
"""

_SECTION = """
## `{name}`

{meaning}

| key | type | default | meaning |
|---|---|---|---|
{rows}
"""


def render() -> str:
    """The page as Markdown."""
    files = " and ".join(f"`{'./' * (not path.is_absolute())}{path}`" for path in DEFAULT_FILES)
    dumped = yaml.safe_dump(Configuration().model_dump(mode="json"), sort_keys=False, width=100)
    parts = [_HEAD.format(files=files, defaults=dumped)]
    sections: dict[str, list[Key]] = {}
    meanings: dict[str, str] = {}
    for key in keys(Configuration):
        section, _, rest = key.path.partition(".")
        if rest:
            sections[section].append(key)
        else:
            sections[section], meanings[section] = [], key.meaning
    for name, members in sections.items():
        rows = "\n".join(_row(key) for key in members)
        parts.append(_SECTION.format(name=name, meaning=meanings[name], rows=rows))
    return "".join(parts)


def _row(key: Key) -> str:
    cells = (f"`{key.path}`", key.shape.text, _default(key), key.meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(key: Key) -> str:
    if key.required:
        return "required"
    default = key.default
    if key.shape.duration and isinstance(default, float):
        return f"`{format_duration(default)}`"
    if key.shape.text == "size" and isinstance(default, int):
        return f"`{format_size(default)}`"
    if default is None or isinstance(default, (bool, int, float)):
        return f"`{json.dumps(default)}`"
    if key.shape.kind == "section" or (key.shape.kind == "list" and default):
        return "see below"
    return f"`{json.dumps(default)}`" if key.shape.kind == "list" else f"`{default}`"


if __name__ == "__main__":
    sys.stdout.write(render())
