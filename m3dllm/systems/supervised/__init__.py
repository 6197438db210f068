"""A library for supervised systems: a new one is its `SPEC`, its `Config` and its `Backbone`.

`config` (options, without torch) · `data` (documents as numbers) · `text`, `vision`, `encoders`, `features` (encoders
and their output) · `layers` (parts of fusions) · `backbone` (States, the interface) · `heads` (a head for each task:
its losses, its decoding) on `pairs`, `scorers`, `alignment`, `crf`, `losses` · `auxiliary` (losses of other papers, by
option) · `decoding`, `boxes` · `checkpoint` · `learner`, `system` (fit and predict).
"""
