"""Exporters: a corpus' gold or a run's predictions in the formats of other tools, one module each. None is loaded here.

A module here, or one that another package names in the entry-point group "m3dllm.exporters", is an exporter: its name
is the format's, the first line of its docstring is its help, and it has

- `HOLDS`, the parts (see `m3dllm.export.Part`) that the format can hold: all others are removed before, each
  counted and named;
- `export(source, notes, *, …)`, which yields (path in the folder, content) of each file to write. Parameters after the
  `*` are its options: their help is in its docstring as ``- `name`: …``. `notes` counts what else was skipped
  or changed.
"""
