"""Why each mutant that survives the tests does so.

The key is a part of the changed line. True stands for a change that no result shows.
"""

WHY: dict[str, tuple[bool, str]] = {}
