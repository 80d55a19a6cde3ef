"""Local stand-ins that speak the real protocols of the outside services."""
