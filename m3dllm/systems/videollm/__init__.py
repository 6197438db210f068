"""Video LLMs: a system that asks a generating model for annotations, and makes malformed answers impossible."""
