"""How good it is: measures, controls, plots."""
