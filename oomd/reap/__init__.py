"""The last signal and the memory back."""
