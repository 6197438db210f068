"""Tuning: conversations from gold, LoRA and full fine-tuning, and adapters on disk."""
