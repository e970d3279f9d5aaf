"""What the outside sees: one file per noun, declared once."""
