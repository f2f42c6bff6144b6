"""From data to weights (extra `train`); never imported by inference."""
