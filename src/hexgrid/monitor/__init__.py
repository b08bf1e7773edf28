"""A running server as an operator watches it, from nothing but its /metrics."""
