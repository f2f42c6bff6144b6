"""Networks only: no files, no randomness, no device."""
