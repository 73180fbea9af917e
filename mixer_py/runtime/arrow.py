"""pyarrow without pandas: imported by every process that handles rows, before anything that handles them.

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


_settle_arrow_without_pandas()
