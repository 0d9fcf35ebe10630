"""The conformance kit under pytest."""

from refsr_detail import build

from refsr_bench.testing import assert_conforms


def test_conforms() -> None:
    """The model does what every model has to do."""
    assert_conforms(build())
