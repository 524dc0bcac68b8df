"""Training of retrievers and rerankers: data, objectives, the loop, recipes."""
