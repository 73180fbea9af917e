"""What evaluates Rego, behind one Protocol: regorus in this process, or an OPA server."""
