"""What systems share that write their answers as text with an encoder-decoder: a T5, or a BART.

`config` (options, without torch) · `language` (records as text, and their one reader) · `places` (where a written text
stands) · `codec` (text as pieces: a small vocabulary with copy slots, or a pretrained tokenizer) · `grammar` (what may
be written about a document), `spans` (texts of it, in its grammar) · `seq2seq` (the model, a T5's losses and answers) ·
`boxes` (candidates for regions), `rows` (what is seen beside a query), `choice` (which candidate a record shows),
`draft` (an answer in the making), `grounded` (mentions and their boxes: of the gold, and of an answer) · `model` (what
is asked, how text and frames meet), `grounding` (one that chooses boxes) · `checkpoint` · `learner`, `system` (fit and
predict).
"""
