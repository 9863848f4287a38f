"""What computes a block, one module a step: its source, and all that it imports, is part of what identifies a block."""
