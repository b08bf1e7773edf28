"""Servers that compute for us over HTTP: vLLM, or any other with OpenAI's embeddings API that takes ids."""
