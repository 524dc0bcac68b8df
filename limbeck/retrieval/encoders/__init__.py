"""Encoders: texts to vectors, each model by the convention it was trained with."""
