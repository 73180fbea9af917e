"""Find, fetch, verify and read bundles. Compiles nothing."""
