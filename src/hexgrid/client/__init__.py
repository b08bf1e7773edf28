"""A client of hexgrid and of any server of OpenAI's embeddings API: texts in, numpy arrays out. No torch."""
