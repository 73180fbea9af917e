package envoy.authz_test

import data.envoy.authz

# A key pair that only these tests know.
private_key := {"kty": "EC", "crv": "P-256", "kid": "sample", "x": "IKhxy9swI_mbnka3WPPBvVynHFQ_Ndm1ZyqFMENgYQY", "y": "pSKqTzxTkBnydzvIf0fEXZaR68LNDLiTsKLRtLB058M", "d": "GeIQ61iJCARtV4CsV4JpTlVpja8ZSgXtaMaZ-dM0QXk"}

public_keys := {"keys": [object.remove(private_key, ["d"])]}

access := {
	"issuer": "https://issuer.example",
	"audience": "books",
	"algorithm": "ES256",
	"grants": {
		"reader": [{"methods": ["GET"], "path": ["books"]}],
		"admin": [{"methods": ["GET", "DELETE"], "path": []}],
	},
}

good := {"iss": "https://issuer.example", "aud": "books", "sub": "ann", "exp": 4102444800, "roles": ["reader"]}

admin := object.union(good, {"roles": ["admin"]})

sign(claims) := io.jwt.encode_sign({"alg": "ES256", "typ": "JWT"}, claims, private_key)

request(method, path, authorization) := {
	"attributes": {"request": {"http": {"method": method, "headers": {"authorization": authorization}}}},
	"parsed_path": path,
}

decide(method, path, claims) := answer if {
	asked := request(method, path, sprintf("Bearer %s", [sign(claims)]))
	answer := authz.result with input as asked with data.jwks as public_keys with data.access as access
}

test_reader_reads if decide("GET", ["books", "7"], good).headers == {"x-user": "ann"}

test_reader_may_not_delete if {
	answer := decide("DELETE", ["books", "7"], good)
	not answer.allowed
	answer.reasons == ["no role of ann allows this DELETE"]
}

test_admin_deletes if decide("DELETE", ["books", "7"], admin).allowed

test_paths_without_a_grant[name] if {
	some name, path in {
		"elsewhere": ["people"],
		"dots": ["books", "..", "people"],
		"encoded slash": ["books", "../people"],
		"doubly encoded": ["books", "%2e%2e", "people"],
		"empty part": ["books", "", "people"],
	}
	not decide("GET", path, good).allowed
}

test_tokens_that_are_not_valid[name] if {
	some name, changes in {
		"expired": {"exp": 1000000000},
		"issuer": {"iss": "https://evil.example"},
		"audience": {"aud": "films"},
		"not yet": {"nbf": 4102444000},
		"end that is no number": {"exp": "never"},
	}
	answer := decide("GET", ["books"], object.union(admin, changes))
	not answer.allowed
	answer.http_status == 401
	answer.reasons == ["the token is not valid"]
}

test_tokens_that_lack_a_claim[name] if {
	some name in ["exp", "sub", "iss", "aud"]
	not decide("GET", ["books"], object.remove(admin, [name])).allowed
}

test_a_key_of_another_is_no_key if {
	asked := request("GET", ["books"], sprintf("Bearer %s", [sign(admin)]))
	not authz.allow with input as asked with data.jwks as {"keys": []} with data.access as access
}

test_the_token_does_not_choose_its_algorithm if {
	key := {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldC0x"}
	signed := io.jwt.encode_sign({"alg": "HS256", "typ": "JWT"}, admin, key)
	asked := request("GET", ["books"], sprintf("Bearer %s", [signed]))
	not authz.allow with input as asked with data.jwks as {"keys": [key]} with data.access as access
}

test_no_token[name] if {
	some name, authorization in {"none": "", "basic": "Basic YW5uOnB3", "empty": "Bearer ", "nonsense": "Bearer a.b.c"}
	asked := request("GET", ["books"], authorization)
	answer := authz.result with input as asked with data.jwks as public_keys with data.access as access
	not answer.allowed
	answer.http_status == 401
	answer.headers == {"www-authenticate": "Bearer"}
}
