"""Logging of every process: one line an event on standard error, as JSON or for a person.

The level changes while a process runs: by a reload, and by signals to the supervisor, which tells its children. Loggers
keep the processors that they were bound with, so it is the content of those that changes.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any, Final

import structlog

from mixer_py.config.log import LogSettings

_LEVELS: Final[Mapping[str, int]] = {**logging.getLevelNamesMapping(), "EXCEPTION": logging.ERROR}
COMMAND: Final = "log"
"""Of the message by which the supervisor tells a child how to log; it has no answer."""


class _Threshold:
    """Drops events below the least severe one that is written.

    Attributes:
        configured: that of the settings.
        everything: whether debug events are written all the same.
    """

    __slots__ = ("configured", "everything")

    def __init__(self) -> None:
        self.configured = logging.INFO
        self.everything = False

    def __call__(self, _logger: object, method: str, event: Any) -> Any:  # noqa: ANN401 (structlog's own types)
        if _LEVELS[method.upper()] < (logging.DEBUG if self.everything else self.configured):
            raise structlog.DropEvent
        return event


def configure_logs(settings: LogSettings, process: str) -> None:
    """Sets up structlog for this process, or changes how it logs."""
    threshold = _threshold() or _Threshold()
    threshold.configured = _LEVELS[settings.level.upper()]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    processors: list[structlog.typing.Processor] = [
        threshold,
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        renderer,
    ]
    if _threshold() is threshold:
        structlog.get_config()["processors"][:] = processors
    else:
        structlog.configure(
            processors=processors,
            wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),  # the threshold is the first processor
            # A line is one write, its end included: print makes two, between which another process may write.
            logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
            cache_logger_on_first_use=False,  # a test may configure anew
        )
    structlog.contextvars.bind_contextvars(process=process)


def log_everything(*, now: bool) -> None:
    """Writes debug events too, or again what the settings say."""
    threshold = _threshold()
    if threshold is not None:
        threshold.everything = now


def logs_everything() -> bool:
    """Whether debug events are written whatever the settings say."""
    threshold = _threshold()
    return threshold is not None and threshold.everything


def message_of(settings: LogSettings) -> dict[str, object]:
    """What tells a child to log as this process does."""
    return {"command": COMMAND, "settings": settings.model_dump(), "everything": logs_everything()}


def follow(message: Mapping[str, Any]) -> None:
    """Logs as the supervisor says."""
    settings = LogSettings.model_validate(message["settings"])
    configure_logs(settings, structlog.contextvars.get_contextvars().get("process", "child"))
    log_everything(now=bool(message["everything"]))
    structlog.get_logger("runtime").debug("told how to log", level_now="debug" if logs_everything() else settings.level)


def _threshold() -> _Threshold | None:
    first = next(iter(structlog.get_config()["processors"]), None)
    return first if isinstance(first, _Threshold) else None
