"""Compare supervised fusion models and video LLMs at grounded, document-level extraction from text and video."""

__version__ = "0.1.0"
