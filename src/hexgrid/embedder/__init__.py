"""The calls of the client on a model that is loaded into this process."""
