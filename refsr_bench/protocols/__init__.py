"""What a number means: evaluation protocols, their inputs, the metrics, and the two-pass evaluation."""
