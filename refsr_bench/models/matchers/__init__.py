"""Matchers: from an enlarged LR picture and a reference to correspondences. None of these files imports torch."""
