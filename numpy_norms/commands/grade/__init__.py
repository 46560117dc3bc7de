"""The command ``grade``: somebody's function against this library's."""
