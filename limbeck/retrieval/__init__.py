"""Retrieval: analysis, indexes, encoders, retrievers, rerankers and fusion."""
