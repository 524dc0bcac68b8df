"""Spec files: YAML to nodes and back, by registered names only."""
