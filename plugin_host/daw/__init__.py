"""What goes into a DAW, and what it asks of us there."""
