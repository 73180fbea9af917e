"""What evaluates Rego, behind one Protocol: regorus in this process, or an OPA server."""

import os

# With `RUST_BACKTRACE` set, each of regorus' errors is looked up in its debug information: milliseconds for every
# evaluation that fails, which a caller can bring about. Nothing here shows those backtraces.
os.environ.setdefault("RUST_LIB_BACKTRACE", "0")
