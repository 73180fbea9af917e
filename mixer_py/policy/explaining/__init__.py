"""Why a policy decided as it did: rules that held or failed, and where. For people; never on a request's path."""
