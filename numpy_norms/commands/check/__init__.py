"""The command ``check``: every norm against oracles that share no line with it."""
