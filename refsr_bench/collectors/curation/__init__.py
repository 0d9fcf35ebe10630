"""WR-SR curation: queries, candidates from the web, cleaning, choosing by hand, and freezing the choice."""
