"""A user study: which of two restored pictures do people prefer? Blinded, balanced, without personal data."""
