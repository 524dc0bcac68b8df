"""The one gate for every LLM call: `model.LLM`, and the wrappers that it is a stack of."""
