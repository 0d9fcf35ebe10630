"""WR-SR curation: from query photographs to a selection that anyone can rebuild a dataset from."""
