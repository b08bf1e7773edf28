"""/v1/files and /v1/batches: requests in files, answered when nobody waits for the engine."""
