"""Forward mode, and the backward pass differentiated again."""
