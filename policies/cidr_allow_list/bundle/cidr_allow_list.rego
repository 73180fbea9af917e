package envoy.authz

# The address that Envoy tells: with xff_num_trusted_hops it is the client's, behind proxies that are trusted. The
# header x-forwarded-for is whatever a client wrote, so it is not read here.
address := input.attributes.source.address.socketAddress.address

default allow := false

allow if {
	not blocked
	not odd_path
	some area in areas
	some network in area.networks
	some cidr in data.access.networks[network]
	net.cidr_contains(cidr, address)
}

blocked if {
	some cidr in data.access.networks.blocked
	net.cidr_contains(cidr, address)
}

# What an area's path begins with is for its networks only; the most special area counts.
areas contains area if {
	some area in data.access.areas
	count(area.path) == longest
	area.path == array.slice(input.parsed_path, 0, count(area.path))
}

longest := max([count(area.path) |
	some area in data.access.areas
	area.path == array.slice(input.parsed_path, 0, count(area.path))
])

# Services disagree on what such paths mean, so none is judged by what it begins with.
odd_path if {
	some index, segment in input.parsed_path
	segment == ""
	index < count(input.parsed_path) - 1
}

odd_path if {
	some segment in input.parsed_path
	segment in {".", ".."}
}

odd_path if {
	some segment in input.parsed_path
	some character in ["/", "\\", ";", "%"]
	contains(segment, character)
}

result["allowed"] := allow

result["body"] := reason if not allow

result["reasons"] := [reason] if not allow

default reason := "the request is not allowed"

reason := sprintf("%s is blocked", [address]) if blocked

reason := "the path is ambiguous" if {
	address
	not blocked
	odd_path
}

reason := sprintf("%s may not reach this", [address]) if {
	not blocked
	not odd_path
	not allow
	address
}

reason := "the caller has no address" if not address
