"""What systems share that write their answers as text with an encoder-decoder, such as a T5.

`config` (options, without torch) · `language` (records as text, and their one reader) · `places` (where a written text
stands) · `codec` (text as pieces: a small vocabulary with copy slots, or a pretrained tokenizer) · `grammar` (what may
be written about a document), `spans` (texts of it, in its grammar) · `seq2seq` (the T5, its losses, its answers) ·
`boxes` (candidates for regions), `rows` (what is seen beside a query), `choice` (which candidate a record shows),
`draft` (an answer in the making), `grounded` (one of mentions and their boxes) · `checkpoint` · `learner`, `system`
(fit and predict).
"""
