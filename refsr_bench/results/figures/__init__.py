"""The figures of a paper, at column or page width, as PDF, SVG or PNG."""
