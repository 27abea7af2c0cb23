"""Programs that use the library; each runs in about a minute."""
