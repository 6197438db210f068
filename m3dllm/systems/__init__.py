"""The systems that come with the project: the only place where heavy libraries are imported."""
