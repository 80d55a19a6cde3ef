"""What every stage needs and nothing that only one needs."""
