"""pyarrow without pandas, in the C library's memory: imported by every process that handles rows, before all else.

It is done by importing this module, because pyarrow decides when it makes its first array, which may be while another
module is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _NoPandas(MetaPathFinder):
    """Says that pandas is not installed."""

    def find_spec(
        self,
        fullname: str,
        _path: Sequence[str] | None,
        _target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Refuses pandas, and leaves everything else to the finders behind."""
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is hidden while pyarrow looks for it", name=fullname)
        return None


def _settle_arrow_without_pandas() -> None:
    """Lets pyarrow find no pandas, once and for all.

    It looks for pandas when it makes its first array, and a pandas that is installed (clickhouse-driver brings one)
    then costs a second and 40 MB in every process that handles rows, for nothing. Others may import it afterwards.
    """
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        import pyarrow as pa  # noqa: PLC0415 (only now, with pandas hidden)

        pa.array([0])
    finally:
        sys.meta_path.remove(finder)


def _settle_memory() -> None:
    """Lets Arrow take memory from the C library.

    Its own allocator gives what is freed back to the system within milliseconds, so that each block of rows is paid
    for in page faults again: an entry of a log cost a sixth more (docs/performance.md).
    """
    import pyarrow as pa  # noqa: PLC0415 (as above)

    pa.set_memory_pool(pa.system_memory_pool())


_settle_arrow_without_pandas()
_settle_memory()
