"""HTTP for scrapers and people, on TCP and on a private socket."""

from mixer_py.admin.application import Access, Pages, make_application
from mixer_py.admin.server import AdminServer

__all__ = ["Access", "AdminServer", "Pages", "make_application"]
