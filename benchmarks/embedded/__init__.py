"""How the embedded video LLM was made: its documents, tokenizer, architecture, training and export."""
