"""Models without a class in transformers: assembled from parts that it has, as their authors did."""
