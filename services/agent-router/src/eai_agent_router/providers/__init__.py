"""The providers: one file for each, with its settings and how its agent is opened. The registry names them."""
