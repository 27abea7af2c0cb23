"""Foreign state dicts -> our variables, and back."""
