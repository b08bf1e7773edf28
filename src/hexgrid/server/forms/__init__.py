"""The APIs that vectors can be asked for by: one file each, which reads its bodies and writes its answers.

What happens between the two is the same for all (server/embeddings.py).
"""
