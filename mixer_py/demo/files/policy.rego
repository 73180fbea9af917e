# Who may do what. Edit this file while the demo runs: mixer reloads it.
#
# The form is that of OPA's own Envoy tutorial, and opa-envoy-plugin would run it as it is; `reasons` is what mixer adds.
package envoy.authz

import rego.v1

import input.attributes.request.http

users := {
	"alice": {"password": "wonderland", "role": "admin", "tenant": "acme"},
	"bob": {"password": "builder", "role": "guest", "tenant": "globex"},
}

permissions := {
	"admin": {"GET", "POST", "DELETE"},
	"guest": {"GET"},
}

# Authorization: Basic base64(name:password)
credentials := split(base64.decode(token), ":") if {
	["Basic", token] = split(http.headers.authorization, " ")
}

name := credentials[0]

user := users[name] if users[name].password == credentials[1]

default allowed := false

allowed if http.method in permissions[user.role]

reason := sprintf("%s is %s", [name, user.role]) if allowed

reason := sprintf("role %s may not %s", [user.role, http.method]) if {
	user
	not allowed
}

reason := "no valid token" if not user

result["allowed"] := allowed

result["reasons"] := [reason]

result["http_status"] := 403 if user

result["http_status"] := 401 if not user

result["body"] := sprintf("%s\n", [reason])

# On allow these go to the service, on deny to the caller.
result["headers"] := {"x-user": name, "x-role": user.role} if allowed

result["headers"] := {"www-authenticate": "Basic realm=\"mixer demo\""} if not user

# Envoy's rate limit reads the tenant from here, so that a caller cannot choose one.
result["dynamic_metadata"] := {"tenant": user.tenant, "user": name} if allowed
