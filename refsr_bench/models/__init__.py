"""The plug-in model zoo: numpy pictures in, numpy pictures out; torch lives only below this folder."""
