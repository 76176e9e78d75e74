"""The embedded weights and their model card."""
