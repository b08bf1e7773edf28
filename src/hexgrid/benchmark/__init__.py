"""Load on a model in this process or on any server with OpenAI's embeddings API, and what it withstood."""
