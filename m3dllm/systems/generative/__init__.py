"""A library for systems that write their answers as text with an encoder-decoder: a T5, or a BART.

`config` (options, without torch) · `language` (records as text, and their reader) · `places` (aligning a written text)
· `codec` (text as subwords: a small vocabulary with copy slots, or a pretrained tokenizer) · `grammar` (constrained
decoding), `spans` (texts of the document in its grammar) · `seq2seq` (the encoder-decoder: loss and decoding) · `boxes`
(candidates for regions), `rows` (frames and candidates beside a query), `choice` (which candidate a record shows),
`draft` (an answer being read), `grounded` (mentions and their boxes, of gold and of answers) · `model` (queries, fusion
of text and frames), `grounding` (a model that chooses boxes) · `checkpoint` · `learner`, `system` (fit and predict).
"""
