"""Norms whose equation is another than that of the five."""
