"""HTTP for scrapers and people."""
