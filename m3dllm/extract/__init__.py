"""From a video, or from texts, to a graph: `steps.extract` does the work, `verb` is its command."""
