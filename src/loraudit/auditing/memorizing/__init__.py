"""What can be extracted: measured on the evidence, generated, and traced back to the training records."""
