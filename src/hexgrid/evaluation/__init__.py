"""How good a model's vectors are on a user's own data: similarity of pairs, and retrieval."""
