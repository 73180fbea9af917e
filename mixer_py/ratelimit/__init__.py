"""Count: envoyproxy/ratelimit's rules, algorithms and counter stores."""
