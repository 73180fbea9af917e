package envoy.authz

import input.attributes.request.http as request

default allow = false

allow {
    claims := verified
    claims.nbf <= seconds
    seconds < claims.exp
    not denied["method"]
    permitted[claims.role]
}

verified = claims {
    [_, compact] := split(request.headers.authorization, " ")
    [true, _, claims] = io.jwt.decode_verify(compact, {"secret": "secret"})
}

seconds = time.now_ns() / 1000000000

methods["GET"] = {"admin", "guest"}

methods["POST"] = {"admin"}

permitted[role] {
    methods[request.method][role]
    re_match("^/people(/.*)?$", request.path)
    named
}

denied["method"] {
    not methods[request.method]
}

named {
    request.method != "POST"
} {
    lower(input.parsed_body.firstname) != base64url.decode(verified.sub)
}
