"""Models that no class of transformers holds whole: parts that it has, put together as their authors did."""
