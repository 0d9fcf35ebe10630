"""The static HTML report: one folder that opens from disk, without network, server or framework."""
