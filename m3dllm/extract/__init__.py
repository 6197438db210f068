"""From a video, or from texts, to a graph: `steps.extract` is the way from one to the other, `verb` its command."""
