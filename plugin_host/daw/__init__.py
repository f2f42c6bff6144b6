"""Digital audio workstations, and what is put into each."""
