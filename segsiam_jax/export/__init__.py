"""Trained networks for elsewhere: `--mode=export`."""
