"""The HTTP API: routes, keys, limits, errors. Thin: what is computed is computed below."""
