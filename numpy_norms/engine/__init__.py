"""How large arrays are worked on: threads and their memory. No norm in it."""
