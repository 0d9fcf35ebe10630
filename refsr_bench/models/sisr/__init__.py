"""Single-image networks of the zoo, one file a method; cards and factories are in `refsr_bench.models.zoo`."""
