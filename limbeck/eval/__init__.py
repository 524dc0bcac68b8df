"""The eval room: datasets, measures, significance, experiments and their reports."""
