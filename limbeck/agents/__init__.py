"""Nodes that ask an LLM at query time, or replay what one said."""
