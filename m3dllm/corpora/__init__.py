"""Corpora: the native format, its tools, and the importers of other formats, one module each. None is loaded here."""
