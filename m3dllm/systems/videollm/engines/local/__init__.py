"""What the engines of models on this machine share: the model without its weights, and what holds answers back."""
