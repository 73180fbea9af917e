"""Logging of every process: one line an event on standard error, as JSON or for a person."""

from __future__ import annotations

import logging
import sys

import structlog

from mixer_py.config.log import LogSettings


def configure_logs(settings: LogSettings, process: str) -> None:
    """Sets up structlog for this process; events below `log.level` cost one comparison."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,  # a reload may change the level
    )
    structlog.contextvars.bind_contextvars(process=process)
