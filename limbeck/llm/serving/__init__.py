"""Servers of language models that Limbeck starts, watches and stops itself."""
