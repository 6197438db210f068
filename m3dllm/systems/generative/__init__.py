"""What systems share that write their answers as text with an encoder-decoder, such as a T5.

`config` (options, without torch) · `language` (records as text, and their one reader) · `places` (where a written text
stands) · `codec` (text as pieces: a small vocabulary with copy slots, or a pretrained tokenizer) · `grammar` (what may
be written about a document) · `seq2seq` (the T5, its losses, its answers) · `boxes` (candidates for regions) ·
`checkpoint` · `learner`, `system` (fit and predict).
"""
